"""What core tells of its own work, for metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(*_: object) -> None:
    """Observe nothing."""


@dataclass(frozen=True, slots=True)
class CoreObservers:
    """Each is called in the event loop and must be quick."""

    event_lag: Callable[[float], None] = _nothing
    event_gap: Callable[[], None] = _nothing
    #: Called after every comparison with the engine, with the number of objects that the one before had found changed
    #: and that no event has told of.
    resync: Callable[[int], None] = _nothing
    #: (seconds, whether it succeeded)
    pull: Callable[[float, bool], None] = _nothing
