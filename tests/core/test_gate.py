from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.core.gate import Gates


async def test_users_share_and_an_ender_waits_for_them() -> None:
    gates = Gates()
    order: list[str] = []
    leave = asyncio.Event()

    async def user(name: str) -> None:
        async with gates.use("s"):
            order.append(f"{name} in")
            await leave.wait()

    async def ender() -> None:
        async with gates.end("s"):
            order.append("ender in")

    async with asyncio.TaskGroup() as group:
        group.create_task(user("a"))
        group.create_task(user("b"))
        await asyncio.sleep(0)
        group.create_task(ender())
        await asyncio.sleep(0)
        assert order == ["a in", "b in"]
        leave.set()

    assert order == ["a in", "b in", "ender in"]


async def test_a_newcomer_waits_behind_an_ender() -> None:
    gates = Gates()
    order: list[str] = []
    leave = asyncio.Event()

    async def ender() -> None:
        async with gates.end("s"):
            await leave.wait()
            order.append("ended")

    async def user() -> None:
        async with gates.use("s"):
            order.append("used")

    async with asyncio.TaskGroup() as group:
        group.create_task(ender())
        await asyncio.sleep(0)
        group.create_task(user())
        await asyncio.sleep(0)
        leave.set()

    assert order == ["ended", "used"]


async def test_a_cancelled_ender_lets_the_others_in() -> None:
    gates = Gates()
    leave = asyncio.Event()

    async def user() -> None:
        async with gates.use("s"):
            await leave.wait()

    async def ender() -> None:
        async with gates.end("s"):
            raise AssertionError("the user has not left")

    holder = asyncio.ensure_future(user())
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(ender())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    late = asyncio.ensure_future(user())
    await asyncio.sleep(0)
    leave.set()
    async with asyncio.timeout(1):
        await asyncio.gather(holder, late)
        async with gates.end("s"):
            pass

    assert not gates._gates  # nothing is kept for objects that nobody holds


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_gate_goes_although_its_turn_comes_as_the_caller_leaves(exclusive: bool) -> None:
    gates = Gates()
    enter = gates.end if exclusive else gates.use

    async def late() -> None:
        async with enter("s"):
            raise AssertionError("the caller has left")

    async with gates.end("s"):
        waiting = asyncio.ensure_future(late())
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))

    assert waiting.cancelled()
    assert not gates._gates
