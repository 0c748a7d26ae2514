"""What was found, and what was counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field


class Abandoned(Exception):
    """A pod's life that cannot go on; the finding is on record already."""


@dataclass(slots=True)
class Book:
    """Counts and findings of a run; any thread may write."""

    began_s: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)  # "method code"
    excused: Counter[str] = field(default_factory=Counter)  # "code during fault"
    findings: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, number: int = 1) -> None:
        """Add to a count."""
        with self._lock:
            if number:
                self.counts[what] += number

    def called(self, method: str, code: str) -> None:
        """A call has ended with a code."""
        with self._lock:
            self.calls[f"{method} {code}"] += 1

    def excuse(self, code: str, fault: str) -> None:
        """A call has failed as it may during a fault."""
        with self._lock:
            self.excused[f"{code} during {fault}"] += 1

    def find(self, text: str) -> None:
        """Note something that is wrong."""
        line = f"[{time.strftime('%H:%M:%S')} +{time.monotonic() - self.began_s:.0f} s] {text}"
        with self._lock:
            self.findings.append(line)
        print(f"FINDING {line}", flush=True)
