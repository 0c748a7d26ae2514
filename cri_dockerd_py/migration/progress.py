"""What a migration is doing now, for those who watch; not kept, but for what the journal has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from cri_dockerd_py.migration.moves import Move, Run


@dataclass(frozen=True, slots=True)
class ImageProgress:
    """The images of a migration: those that are there, and how far the others are."""

    images_done: int = 0
    images_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    current: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A migration as it is now; `run` is None when there was none, `waiting` says what it waits for."""

    run: Run | None = None
    moves: tuple[Move, ...] = ()
    images: ImageProgress = ImageProgress()
    waiting: str = ""


class Board:
    """Holds the present progress and wakes those who watch it."""

    def __init__(self) -> None:
        self.progress = Progress()
        #: Called when another progress is shown.
        self.on_change: list[Callable[[], None]] = []
        self._changed = asyncio.Event()

    def show(self, progress: Progress) -> None:
        """Replace what is shown."""
        if progress != self.progress:
            self.progress = progress
            self._changed.set()
            self._changed = asyncio.Event()
            for listener in self.on_change:
                listener()

    async def watch(self) -> AsyncIterator[Progress]:
        """Yield what is shown now and whenever it changes; a slow watcher misses what is in between."""
        while True:
            changed = self._changed
            yield self.progress
            await changed.wait()
