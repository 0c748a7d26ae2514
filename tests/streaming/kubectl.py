"""Debian's kubectl of two generations, unpacked into a cache: one speaks SPDY, the other prefers WebSocket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.debian_packages import cache_lock, fetch


@dataclass(frozen=True, slots=True)
class KubectlRelease:
    """The Debian suite and package that a kubectl comes in."""

    suite: str
    package: str


RELEASES = {
    "kubectl-1.20": KubectlRelease("bookworm", "kubernetes-client"),
    "kubectl-new": KubectlRelease("sid", "kubectl"),
}


def kubectl(name: str) -> Path:
    """Return the path of a kubectl, fetching it when the cache has none."""
    release = RELEASES[name]
    with cache_lock(name) as unpacked:
        program = unpacked / "usr/bin/kubectl"
        if not program.exists():
            fetch(release.suite, [release.package], unpacked)
    return program
