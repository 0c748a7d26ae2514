"""Independent steps run beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def together(*steps: Awaitable[object]) -> None:
    """Run all steps to their end, whatever fails, then raise the first failure."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
