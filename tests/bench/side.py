"""One of the two servers that are compared: its client and the processes whose work is charged to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.behaviour.client import Cri

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Side:
    """A CRI server; `pids` are the server's own process, and then those of its engine."""

    name: str
    cri: Cri
    pids: Sequence[int]

    def cpu_seconds(self) -> float:
        """Return the CPU time that server and engine have used since they began."""
        return sum(_cpu_seconds(pid) for pid in self.pids)

    def resident_mb(self) -> float:
        """Return the memory that the server's own process holds."""
        pages = int(Path(f"/proc/{self.pids[0]}/statm").read_text().split()[1])
        return pages * _PAGE_BYTES / 1e6


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
