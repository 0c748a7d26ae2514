"""The command line: argv → settings → one verb. What a verb needs is imported when it runs."""

from __future__ import annotations

from cri_dockerd_py.cli.main import main

__all__ = ["main"]
