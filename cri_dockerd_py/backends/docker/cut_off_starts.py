"""What is left of a start during which Docker died: processes that run while Docker takes the container for CREATED.

Docker notes only afterwards that a container runs. Blocking.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

_PROC = Path("/proc")
_LEFT = re.compile(
    r"id already in use|failed to start shim: mkdir .*: file exists|container with given ID already exists"
)


def is_left_of_a_start(message: str) -> bool:
    """Say whether a start failed by what an earlier one has left; nothing of the container is wrong then."""
    return _LEFT.search(message) is not None


def processes_of(container_id: str, proc: Path = _PROC) -> list[int]:
    """Return the processes in the container's cgroup, which has its id in its name."""
    found = []
    for process in proc.iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if container_id in (process / "cgroup").read_text():
                    found.append(int(process.name))
    return found


def kill_processes_of(container_id: str, proc: Path = _PROC) -> int:
    """SIGKILL all processes in the container's cgroup; return how many."""
    killed = 0
    for pid in processes_of(container_id, proc):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed
