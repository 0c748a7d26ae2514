from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.network.settle import settle, settle_call


async def test_a_result_and_an_error_come_through() -> None:
    async def give() -> int:
        return 5

    async def fail() -> int:
        raise KeyError("x")

    assert await settle_call(give(), "give") == 5
    with pytest.raises(KeyError):
        await settle_call(fail(), "fail")


@pytest.mark.parametrize("cancels", [1, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_the_work_ends_before_the_cancellation_is_felt(cancels: int, fails: bool) -> None:
    may_end = asyncio.Event()
    ended = False

    async def work() -> None:
        nonlocal ended
        await may_end.wait()
        ended = True
        if fails:
            raise KeyError

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(settle_call(work(), "work"))
        for _ in range(cancels):
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.sleep(0)
        assert not waiting.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert ended


async def test_work_that_was_itself_cancelled() -> None:
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settle(work)
