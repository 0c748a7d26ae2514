"""A pod through the CRI socket, as any client would run it, from an image that needs no registry."""

from __future__ import annotations

from cri_dockerd_py.demo.walk import run

__all__ = ["run"]
