"""How late the event loop is: what every answer waits for before anything of ours runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PERIOD_S = 1.0


async def watch_loop(observe: Callable[[float], object], period_s: float = PERIOD_S) -> None:
    """Tell `observe` once a period by how many seconds a timer came late; runs until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + period_s
        await asyncio.sleep(period_s)
        observe(max(0.0, loop.time() - due_s))
