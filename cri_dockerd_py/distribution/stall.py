"""Whether a pull gets on: requests are open and no byte has come for too long (IMG-33)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stalled(Exception):
    """No byte has come on any open request for the whole of the allowed time."""


class StallWatch:
    """The one watch of a pull; time without open requests does not count. `stall_s` 0 waits for ever."""

    def __init__(self, stall_s: float) -> None:
        self.stall_s = stall_s
        self._open = 0
        self._moved_s = 0.0

    def opened(self) -> None:
        """Note that a request begins."""
        if not self._open:
            self.moved()
        self._open += 1

    def closed(self) -> None:
        """Note that a request, with the body of its answer, has ended."""
        self._open -= 1

    def moved(self) -> None:
        """Note that bytes have come."""
        self._moved_s = asyncio.get_running_loop().time()

    async def wait(self, step: Coroutine[Any, Any, Result], within_s: float = 0.0) -> Result:
        """Return what `step` of an open request returns.

        Raises TimeoutError when it alone takes too long, or longer than `within_s`; Stalled when nothing else moves.
        """
        limits = [limit_s for limit_s in (within_s, self.stall_s) if limit_s]
        try:
            async with asyncio.timeout(min(limits, default=None)):
                return await step
        except TimeoutError:
            if self.stall_s and asyncio.get_running_loop().time() - self._moved_s >= self.stall_s:
                raise Stalled from None
            raise
