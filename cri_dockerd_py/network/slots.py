"""How many plugins compute at the same time.

A crowd of them would starve the event loop of a small node and would not be done any sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

_BUSY_S = 1.0
_MIN_SLOTS = 4


class PluginSlots:
    """Two slots a processor. A plugin that has not ended after a second mostly waits, so it gives its slot back."""

    def __init__(self, count: int | None = None) -> None:
        self._free = asyncio.Semaphore(count or max(_MIN_SLOTS, 2 * len(os.sched_getaffinity(0))))

    @contextlib.asynccontextmanager
    async def hold(self, deadline: float) -> AsyncIterator[None]:
        """Hold a slot for a while; TimeoutError when there is none before `deadline`."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            raise TimeoutError
        async with asyncio.timeout_at(deadline):
            await self._free.acquire()
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._free.release()

        timer = loop.call_later(_BUSY_S, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
