"""What a run has come to, as a table or as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.census import ALLOWED_GROWTH, Figures
from tests.soak.findings import Book

#: Lines of the service's log that tell of a fault of its own, and what the traceback on such a line begins with.
_EXCEPTION = ' exception="'
_FAULTS_IN_LOG = re.compile(r"Traceback|was never retrieved|was never awaited|internal error|Unhandled|CRITICAL")
_LINES_OF_A_FAULT = 40


@dataclass(slots=True)
class Result:
    """The figures of a run; `left` is what pods left behind at its end, `first` and `last` the process's sizes."""

    seed: int
    engines: list[str]
    seconds: float = 0.0
    first: Figures = field(default_factory=dict)
    last: Figures = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    #: What the first pods made for good, which is part of the baseline.
    made_once: Mapping[str, list[str]] = field(default_factory=dict)
    rounds: list[Mapping[str, float]] = field(default_factory=list)
    longest_recovery_s: float = 0.0
    pods_measured: int = 0

    def too_much(self) -> list[str]:
        """Return what grew by more than it may."""
        growth = {name: self.last[name] - self.first[name] for name in self.last}
        return [
            f"{name}: {growth[name]:+.1f}, {allowed:g} at most"
            for name, allowed in ALLOWED_GROWTH.items()
            if growth.get(name, 0.0) > allowed
        ]


def service_faults(log: Path) -> list[str]:
    """Return what the service's log tells of faults of its own, each text once."""
    lines = log.read_text(errors="replace").splitlines()
    texts: Counter[str] = Counter()
    for number, line in enumerate(lines):
        if _FAULTS_IN_LOG.search(line):
            rest = lines[number + 1 : number + _LINES_OF_A_FAULT]
            last = next((text for text in rest if text and not text[0].isspace()), "")
            texts[f"{line[:160]} … {line[-300:] if _EXCEPTION in line else last[:300]}"] += 1
    return [f"{text} ({count} times)" for text, count in texts.items()]


def table(result: Result, book: Book) -> str:
    """Return the result for people."""
    lines = [f"seed {result.seed}, {', '.join(result.engines)}, {result.seconds / 60:.1f} minutes", ""]
    lines += _columns(book.counts)
    lines += ["", f"{sum(book.calls.values())} calls:"]
    lines += _columns(_by_code(book.calls))
    lines += ["", "failures that faults excuse:", *_columns(book.excused)]
    lines += ["", f"longest recovery after a fault: {result.longest_recovery_s:.1f} s", ""]
    lines.append(f"{'the service':<32}{'baseline':>12}{'end':>12}{'growth':>12}   over {result.pods_measured} pods")
    for name in result.last:
        first, last = result.first[name], result.last[name]
        lines.append(f"{name:<32}{first:>12.1f}{last:>12.1f}{last - first:>+12.1f}")
    lines += ["", f"{'left behind':<44}{'growth':>12}"]
    lines += [f"{kind:<44}{number:>12}" for kind, number in sorted(result.left.items())]
    lines += ["", "made once by the first pods:"]
    lines += [f"  {kind}: {len(items)}: {', '.join(items)[:300]}" for kind, items in result.made_once.items()]
    lines += ["", f"{len(book.findings)} findings", *book.findings]
    return "\n".join(lines)


def as_json(result: Result, book: Book) -> str:
    """Return the result for programs."""
    return json.dumps(
        {
            "seed": result.seed,
            "engines": result.engines,
            "seconds": round(result.seconds, 1),
            "counts": dict(book.counts),
            "calls": dict(book.calls),
            "excused": dict(book.excused),
            "baseline": dict(result.first),
            "end": dict(result.last),
            "pods_measured": result.pods_measured,
            "rounds": [dict(one) for one in result.rounds],
            "left": result.left,
            "made_once": dict(result.made_once),
            "longest_recovery_s": round(result.longest_recovery_s, 2),
            "findings": book.findings,
        },
        indent=1,
    )


def _by_code(calls: Mapping[str, int]) -> Counter[str]:
    codes: Counter[str] = Counter()
    for call, number in calls.items():
        codes[call.partition(" ")[2]] += number
    return codes


def _columns(counts: Mapping[str, int]) -> list[str]:
    return [f"  {name:<48}{number:>10}" for name, number in sorted(counts.items())]
