"""Limits that Docker has no field for, written into a running container's cgroup (v2 only, RES-05). Blocking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from cri_dockerd_py.errors import InvalidArgument, NotFound

CGROUP_ROOT = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def cgroup_of(pid: int, *, proc: Path = _PROC, root: Path = CGROUP_ROOT) -> Path:
    """Return the directory of a process's cgroup in the unified hierarchy."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError as error:
        raise NotFound(f"process {pid} has ended") from error
    for line in lines:
        if line.startswith("0::/"):
            return root / line[4:]
    raise InvalidArgument(f"process {pid} is in no cgroup of the unified hierarchy")


def write_limits(directory: Path, limits: Mapping[str, str]) -> dict[str, str]:
    """Write all limits or none; return what was in force before."""
    before: dict[str, str] = {}
    for key, value in limits.items():
        try:
            old = (directory / key).read_text().strip()
            _write(directory / key, value)
        except OSError as error:
            restore_limits(directory, before)
            raise InvalidArgument(f"{key} cannot be set to {value!r}: {os.strerror(error.errno or 0)}") from error
        before[key] = old
    return before


def restore_limits(directory: Path, before: Mapping[str, str]) -> None:
    """Write back what `write_limits` found; a cgroup that is gone needs nothing."""
    for key, value in before.items():
        with contextlib.suppress(OSError):
            _write(directory / key, value)


def _write(path: Path, value: str) -> None:
    """Write in one call, and only to a file that the kernel has made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
