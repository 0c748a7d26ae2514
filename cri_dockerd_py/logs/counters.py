"""What the log room has done since it started, as plain integers that a metrics page can read at any time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Only the pump thread adds; anyone may read."""

    read_bytes: int = 0
    written_bytes: int = 0
    written_lines: int = 0
    dropped_bytes: int = 0
    dropped_lines: int = 0
    rotations: int = 0
    full_pipes: int = 0
    recovered_chunks: int = 0
    failures: int = 0
