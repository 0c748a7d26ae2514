"""Watching the event loop."""

from __future__ import annotations

import asyncio
import time

from cri_dockerd_py.metrics.loop_lag import watch_loop


async def test_a_blocked_loop_is_seen() -> None:
    """A loop that was held up for 0.2 s shows a lag of about that; an idle one shows none to speak of."""
    lags: asyncio.Queue[float] = asyncio.Queue()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        watcher = group.create_task(watch_loop(lags.put_nowait, period_s=0.05))
        idle = [await lags.get() for _ in range(3)]
        time.sleep(0.25)  # noqa: ASYNC251 - blocking the loop is the point
        blocked = await lags.get()
        watcher.cancel()

    assert min(idle) < 0.05
    assert blocked > 0.15
