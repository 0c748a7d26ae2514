"""What the processes of a container hold open, counted within bounds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cri_dockerd_py.cgroups.files import read_once

MAX_PROCESSES = 128
MAX_DESCRIPTORS = 4096
_OPEN_FILES = re.compile(rb"^Max open files\s+(\d+|unlimited)\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """Counts over the processes of a container; `complete` is false when a bound was hit."""

    processes: int
    file_descriptors: int
    sockets: int
    complete: bool


def count_open(pids: Sequence[int], proc_root: str = "/proc") -> ProcessFigures:
    """Count descriptors and sockets; a process that ends meanwhile counts as having none."""
    descriptors = sockets = 0
    for pid in pids[:MAX_PROCESSES]:
        if descriptors >= MAX_DESCRIPTORS:
            break
        links = _links(f"{proc_root}/{pid}/fd", MAX_DESCRIPTORS - descriptors)
        descriptors += len(links)
        sockets += sum(1 for link in links if link.startswith("socket:"))
    complete = len(pids) <= MAX_PROCESSES and descriptors < MAX_DESCRIPTORS
    return ProcessFigures(len(pids), descriptors, sockets, complete)


def _links(directory: str, limit: int) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return [_link(f"{directory}/{name}") for name in names[:limit]]


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def open_files_limit(pid: int, proc_root: str = "/proc") -> int | None:
    """Return the soft limit of open files of a process; None when it is gone or unlimited."""
    match = _OPEN_FILES.search(read_once(f"{proc_root}/{pid}/limits") or b"")
    return int(match[1]) if match and match[1].isdigit() else None
