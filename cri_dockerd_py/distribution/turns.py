"""When transfers begin: beside each other where that helps, else one by one, so that the lowest layer is early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: After so long the registry, or the way to it, is what limits a transfer: another one beside it helps.
_ALONE_S = 0.1


class Turns:
    """Lets the next transfer begin when the one before has ended or has gone on for a moment.

    At most `limit` hold one of the `slots` at a time; transfers begin in the order of asking.
    """

    def __init__(self, limit: int) -> None:
        self.slots = asyncio.Semaphore(limit)
        self._next = asyncio.Semaphore(1)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn to begin, holding one of the `slots`; the block is the transfer."""
        await self._next.acquire()
        let_next = _Once(self._next)
        timer = asyncio.get_running_loop().call_later(_ALONE_S, let_next.release)
        try:
            yield
        finally:
            timer.cancel()
            let_next.release()


class _Once:
    """Releases what is held, once."""

    def __init__(self, held: asyncio.Semaphore) -> None:
        self._held: asyncio.Semaphore | None = held

    def release(self) -> None:
        """Release it unless that has been done."""
        if self._held is not None:
            self._held.release()
            self._held = None
