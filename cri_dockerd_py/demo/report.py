"""What a demo shows: a line for each step with its time and its result."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Step:
    """One step; whoever takes it adds what came of it."""

    title: str
    results: list[str] = field(default_factory=list)

    def show(self, *lines: str) -> None:
        """Add lines to the result."""
        self.results.extend(lines)


class Report:
    """Prints steps as they end: with colours on a terminal, else as plain text."""

    def __init__(self) -> None:
        self._print = _terminal_printer() if sys.stdout.isatty() else _plain
        self._began = time.monotonic()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Time the block and print the step, whether it ends well or not."""
        step = Step(title)
        began = time.monotonic()
        try:
            yield step
        except BaseException:
            self._print(False, (time.monotonic() - began) * 1000, step)
            raise
        self._print(True, (time.monotonic() - began) * 1000, step)

    def total_seconds(self) -> float:
        """Return the time since the report began."""
        return time.monotonic() - self._began


def _plain(well: bool, elapsed_ms: float, step: Step) -> None:
    print(f"{'ok  ' if well else 'FAIL'} {elapsed_ms:8.1f} ms  {step.title}", flush=True)
    for line in step.results:
        print(f"{'':18}{line}", flush=True)


def _terminal_printer() -> Callable[[bool, float, Step], None]:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)

    def show(well: bool, elapsed_ms: float, step: Step) -> None:
        mark = "[green]✔[/]" if well else "[red]✘[/]"
        console.print(f"{mark} [cyan]{elapsed_ms:8.1f} ms[/]  [bold]{escape(step.title)}[/]")
        for line in step.results:
            console.print(f"{'':16}[dim]{escape(line)}[/]", soft_wrap=True)

    return show
