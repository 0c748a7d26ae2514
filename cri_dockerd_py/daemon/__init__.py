"""The composition root: builds every room from the settings, runs them together, and ends them in order."""

from __future__ import annotations

from cri_dockerd_py.daemon.serve import serve

__all__ = ["serve"]
