"""Tasks with a name and an owner that waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


def start(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a task that the caller ends with `cancel`, or waits for."""
    return asyncio.get_running_loop().create_task(work, name=f"streaming: {name}")


async def cancel(jobs: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for them, also when the caller is cancelled meanwhile: it owns what they use."""
    owned = list(jobs)
    pending = {job for job in owned if not job.done()}
    cancelled: asyncio.CancelledError | None = None
    for job in pending:
        job.cancel()
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError as cause:
            cancelled = cause
            pending = {job for job in pending if not job.done()}
    for job in owned:
        if not job.cancelled() and (failure := job.exception()) is not None:
            logger.debug("%s ended with %r", job.get_name(), failure)
    if cancelled is not None:
        raise cancelled


class Turns:
    """Makes a copy that no peer slows down let the rest of the program have its turn."""

    _BYTES = 256 * 1024

    def __init__(self) -> None:
        self._left_bytes = self._BYTES

    async def count(self, size_bytes: int) -> None:
        """Count copied bytes, and pause once in a while."""
        self._left_bytes -= size_bytes
        if self._left_bytes <= 0:
            self._left_bytes = self._BYTES
            await asyncio.sleep(0)
