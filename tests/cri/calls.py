"""An observer that keeps what it is told."""

from __future__ import annotations


class CallBook:
    """Calls by method."""

    def __init__(self) -> None:
        self.by_method: dict[str, CallSeries] = {}

    def series(self, method: str) -> CallSeries:
        """Return the series of a method; each is asked for once."""
        assert method not in self.by_method
        return self.by_method.setdefault(method, CallSeries())


class CallSeries:
    """Calls of one method."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.ended: list[tuple[str, float]] = []

    def begin(self) -> None:
        """A call starts."""
        self.in_flight += 1

    def end(self, seconds: float, code: str) -> None:
        """The call has ended."""
        self.in_flight -= 1
        self.ended.append((code, seconds))

    @property
    def codes(self) -> list[str]:
        """The codes of the calls so far."""
        return [code for code, _ in self.ended]
