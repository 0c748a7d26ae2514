from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.network.slots import PluginSlots


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_no_more_than_the_count_at_once() -> None:
    slots = PluginSlots(2)
    running = peak = 0

    async def work() -> None:
        nonlocal running, peak
        async with slots.hold(soon(20)):
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0)
            running -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(work())
    assert peak == 2


async def test_who_waits_long_gives_its_slot_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cri_dockerd_py.network.slots._BUSY_S", 0.05)
    slots = PluginSlots(1)
    async with slots.hold(soon(20)), slots.hold(soon(20)):
        pass
    async with slots.hold(soon(20)):
        with pytest.raises(TimeoutError):
            async with slots.hold(soon(0.01)):
                pass
    with pytest.raises(TimeoutError):
        async with slots.hold(soon(0)):
            pass


async def test_an_error_frees_the_slot() -> None:
    slots = PluginSlots(1)
    with pytest.raises(KeyError):
        async with slots.hold(soon(20)):
            raise KeyError
    async with slots.hold(soon(20)):
        pass
