"""Sources of bind mounts, prepared on the host. Blocking; use a thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from cri_dockerd_py.backends.mount_table import MountInfo, check_propagation, parse_mountinfo
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Mount, Propagation


def resolve_sources(mounts: Sequence[Mount]) -> list[Mount]:
    """Return bind mounts with real sources, parents before children (MNT-01 to 03, 09). Blocking; use a thread."""
    table: list[MountInfo] = []
    if any(mount.propagation is not Propagation.PRIVATE for mount in mounts):
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            table = parse_mountinfo(file.read())
    resolved = []
    for mount in sorted(mounts, key=lambda mount: os.path.normpath(mount.container_path).count("/")):
        if mount.image is None:
            mount = replace(mount, host_path=_real_source(mount))
            check_propagation(mount, table)
        resolved.append(mount)
    return resolved


def _real_source(mount: Mount) -> str:
    """Follow links, and make a directory where nothing is."""
    try:
        source = os.path.realpath(mount.host_path)
        if not os.path.lexists(source):
            os.makedirs(source, 0o755, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(
            f"mount of {mount.container_path}: {mount.host_path} cannot be used: {error.strerror}"
        ) from error
    return source
