"""Shims that containerd has lost: it died before it had noted where they listen, and removed their bundles since.

Such a shim has no process to look after, and nobody can call it; it would stay until the node is booted. Blocking.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from cri_dockerd_py.backends.process_tree import processes

_LOG = logging.getLogger(__name__)
_PROC = Path("/proc")
_PROGRAM = "containerd-shim"
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Shim:
    """A shim's process; `id` is the container that it was started for, a pod's sandbox as a rule."""

    pid: int
    id: str
    namespace: str
    address: str


def end_lost_shims(address: str, namespace: str, in_use: Collection[str]) -> list[str]:
    """Kill the shims of one containerd (the path of its socket) and namespace that are lost, and return their ids.

    `in_use` are ids of containers with a task, and of their sandboxes: a shim that serves one is not lost.
    """
    shims = [shim for shim in _shims() if _is_of(shim, address, namespace) and shim.id not in in_use]
    candidates = [shim for shim in shims if _bundle_is_gone(_PROC / str(shim.pid))]
    if not candidates:
        return []
    parents = {process.parent for process in processes()}
    lost = [shim for shim in candidates if shim.pid not in parents]
    for shim in lost:
        with contextlib.suppress(ProcessLookupError):
            os.kill(shim.pid, signal.SIGKILL)
            _LOG.warning("killed the shim of %s, which containerd has lost (process %d)", shim.id, shim.pid)
    return [shim.id for shim in lost]


def _shims() -> Iterator[Shim]:
    for process in processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            shim = _read(process.pid, (_PROC / str(process.pid) / "cmdline").read_bytes())
            if shim is not None:
                yield shim


def _read(pid: int, command_line: bytes) -> Shim | None:
    program, *words = command_line.decode(errors="replace").split("\0")
    if not os.path.basename(program).startswith(_PROGRAM):
        return None
    flags = dict(itertools.pairwise(words))
    return Shim(pid, flags.get("-id", ""), flags.get("-namespace", ""), flags.get("-address", ""))


def _is_of(shim: Shim, address: str, namespace: str) -> bool:
    return shim.namespace == namespace and os.path.realpath(shim.address) == os.path.realpath(address)


def _bundle_is_gone(process: Path) -> bool:
    """Whether the bundle, in which shims are started, has been removed."""
    try:
        return os.readlink(process / "cwd").endswith(_DELETED)
    except OSError:
        return False
