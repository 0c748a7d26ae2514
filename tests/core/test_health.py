from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.core.health import EngineHealth
from cri_dockerd_py.errors import Unavailable


async def test_a_call_under_way_is_let_go_when_the_engine_goes_away() -> None:
    health = EngineHealth("docker")
    health.up()
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    guarded = asyncio.ensure_future(health.guard(hang()))
    await asyncio.sleep(0.01)
    health.down("no answer")

    with pytest.raises(Unavailable, match="no answer"):
        await guarded
    assert cancelled.is_set()


async def test_writes_fail_fast_until_the_engine_is_back() -> None:
    health = EngineHealth("docker")
    with pytest.raises(Unavailable, match="not connected yet"):
        health.require()
    health.up()
    health.require()

    async def answer() -> int:
        return 7

    assert await health.guard(answer()) == 7


async def test_a_cancelled_caller_cancels_its_call() -> None:
    health = EngineHealth("docker")
    health.up()
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.ensure_future(health.guard(hang()))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert ended.is_set()
