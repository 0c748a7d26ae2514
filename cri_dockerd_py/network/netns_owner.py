"""Namespaces that belong to a user namespace with given mappings, made by a process of their own.

A process with threads cannot enter a new user namespace, so a small child does; whoever pins its network namespace
keeps both alive, as a namespace keeps its owner. The parent writes the mappings: the child may not map ids of others.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cri_dockerd_py.model.security import IdMapping

_CLONE_NEWUSER_AND_NEWNET = 0x10000000 | 0x40000000
_CHILD = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare({_CLONE_NEWUSER_AND_NEWNET}):
    sys.exit(os.strerror(ctypes.get_errno()))
os.write(1, b"made")
os.read(0, 1)
"""
_END_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class OwnerMappings:
    """The ids of a user namespace."""

    uids: Sequence[IdMapping]
    gids: Sequence[IdMapping]


@contextmanager
def new_owned_netns(mappings: OwnerMappings) -> Iterator[str]:
    """Yield the path of a new network namespace, which goes with the context unless it is pinned; OSError on failure.

    Blocks for some hundredths of a second; run it in a thread.
    """
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
    )
    try:
        assert child.stdout is not None
        assert child.stderr is not None
        if child.stdout.read(4) != b"made":
            raise OSError(f"no new user namespace: {child.stderr.read(500).decode(errors='replace').strip()}")
        proc = Path("/proc") / str(child.pid)
        (proc / "uid_map").write_text(_lines(mappings.uids))
        (proc / "gid_map").write_text(_lines(mappings.gids))
        yield str(proc / "ns/net")
    finally:
        try:
            child.communicate(timeout=_END_WITHIN_S)  # the end of its input ends it
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


def _lines(mappings: Sequence[IdMapping]) -> str:
    return "".join(f"{one.container_id} {one.host_id} {one.length}\n" for one in mappings)
