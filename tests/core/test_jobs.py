"""Jobs that are known by a key."""

from __future__ import annotations

import asyncio

from cri_dockerd_py.core.jobs import Jobs


async def test_a_job_that_is_asked_for_as_another_ends_is_not_left_out() -> None:
    jobs, done = Jobs(), 0

    async def work() -> None:
        nonlocal done
        done += 1

    jobs.spawn("key", work)
    asyncio.get_running_loop().call_soon(jobs.spawn, "key", work)
    await asyncio.sleep(0.01)
    assert done == 2
    assert await jobs.shared("key", work) is None
    await jobs.close(within_s=1)
    assert (done, jobs._running) == (3, {})
