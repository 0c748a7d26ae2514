"""Independent steps run beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


async def together(*steps: Awaitable[object]) -> None:
    """Run all steps to their end, whatever fails, then raise the first failure."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def both(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Return what two steps return; when one fails, the other is cancelled and has ended before that is raised."""
    one, two = asyncio.ensure_future(first), asyncio.ensure_future(second)
    jobs: tuple[asyncio.Future[Any], ...] = (one, two)
    try:
        await asyncio.wait(jobs, return_when=asyncio.FIRST_EXCEPTION)
        failed = next((job for job in jobs if job.done() and (job.cancelled() or job.exception())), None)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    if failed is not None:
        failed.result()
    return one.result(), two.result()
