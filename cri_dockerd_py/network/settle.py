"""Waiting for work that must not be left half-done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settle(work: asyncio.Future[T]) -> T:
    """Wait for `work` even when the caller is cancelled meanwhile; the cancellation is raised afterwards.

    The work must be bounded by a deadline of its own.
    """
    cancelled = False
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                raise
            cancelled = True
        except Exception:
            break
    if cancelled:
        if not work.cancelled():
            work.exception()
        raise asyncio.CancelledError
    return work.result()


async def settle_call(call: Coroutine[Any, Any, T], name: str) -> T:
    """Run a coroutine to its end in a job of its own, whatever happens to the caller."""
    return await settle(asyncio.get_running_loop().create_task(call, name=name))
