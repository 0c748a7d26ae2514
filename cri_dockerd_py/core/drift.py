"""Tells the changes that an engine's events never told of from those whose events are on their way."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

#: An event that came so shortly before a comparison may still be at work while that finds the same change.
_AT_WORK_S = 10.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """When a comparison began, and the event stream that was open then."""

    stream: object | None
    began_s: float = field(default_factory=time.monotonic)


class Drift:
    """What comparisons with one engine found changed: it has until the next one for an event to tell of it.

    Between two comparisons without one unbroken event stream nothing can be concluded.
    """

    def __init__(self) -> None:
        self._stream: object | None = None
        self._compared: object | None = None
        self._told_s: dict[str, float] = {}
        self._untold: set[str] = set()

    def opened(self) -> None:
        """A new event stream begins."""
        self._stream = object()
        self._untold.clear()

    def broken(self) -> None:
        """The event stream has ended."""
        self._stream = None
        self._untold.clear()

    def told(self, object_id: str) -> None:
        """An event was about this object."""
        self._told_s[object_id] = time.monotonic()
        self._untold.discard(object_id)

    def begin(self) -> Comparison:
        """A comparison begins; give it to `compared` when it has succeeded."""
        return Comparison(self._stream)

    def compared(self, comparison: Comparison, changed: Collection[str]) -> Collection[str]:
        """Take what a comparison found changed; return what the one before had found and no event has told of since."""
        drifted, since_s = self._untold, comparison.began_s - _AT_WORK_S
        self._told_s = {one: at_s for one, at_s in self._told_s.items() if at_s >= since_s}
        unbroken = comparison.stream is not None and comparison.stream is self._stream is self._compared
        self._untold = {one for one in changed if one not in self._told_s} if unbroken else set()
        self._compared = comparison.stream
        return drifted
