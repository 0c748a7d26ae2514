"""Locks by name."""

from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.backends.keyed_locks import KeyedLocks


async def test_one_at_a_time_for_each_key() -> None:
    locks, inside, most = KeyedLocks(), {"a": 0, "b": 0}, {"a": 0, "b": 0}

    async def work(key: str) -> None:
        async with locks.hold(key):
            inside[key] += 1
            most[key] = max(most[key], inside[key])
            assert sum(inside.values()) <= 2
            await asyncio.sleep(0)
            inside[key] -= 1

    await asyncio.gather(*(work(key) for key in "aabbab"))

    assert most == {"a": 1, "b": 1}


async def test_a_waiter_that_leaves_holds_nobody_up() -> None:
    locks = KeyedLocks()
    await locks.acquire("a")
    leaver, stayer = asyncio.ensure_future(locks.acquire("a")), asyncio.ensure_future(locks.acquire("a"))
    await asyncio.sleep(0)

    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    locks.release("a")

    await stayer
    locks.release("a")
