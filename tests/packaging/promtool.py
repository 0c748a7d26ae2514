"""Debian's promtool, unpacked into a cache."""

from __future__ import annotations

from pathlib import Path

from tests.debian_packages import cache_lock, fetch


def promtool() -> Path:
    """Return the path of promtool, fetching it when the cache has none."""
    with cache_lock("prometheus") as unpacked:
        program = unpacked / "usr/bin/promtool"
        if not program.exists():
            fetch("bookworm", ["prometheus"], unpacked)
    return program
