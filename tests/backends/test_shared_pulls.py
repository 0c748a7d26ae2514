"""Pulls that are merged."""

from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.backends.shared_pulls import SharedPulls
from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.image import RegistryAuth


class Pulls:
    """Pulls that end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str]] = []
        self.shared = SharedPulls(self._pull)

    async def _pull(self, image: str, auth: RegistryAuth | None) -> str:
        self.begun.append(asyncio.get_running_loop().create_future())
        return await self.begun[-1]

    def start(self, count: int, auth: RegistryAuth | None = None) -> list[asyncio.Future[str]]:
        """Begin pulls of one image."""
        return [asyncio.ensure_future(self.shared.pull("image", auth)) for _ in range(count)]


async def settled() -> None:
    """Let all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_pull_for_all() -> None:
    pulls = Pulls()
    callers = pulls.start(3)
    await settled()

    pulls.begun[0].set_result("id")

    assert await asyncio.gather(*callers) == ["id"] * 3
    assert len(pulls.begun) == 1


async def test_other_credentials_are_another_pull() -> None:
    pulls = Pulls()
    callers = pulls.start(1) + pulls.start(1, RegistryAuth(username="u", password="p"))
    await settled()

    for number, begun in enumerate(pulls.begun):
        begun.set_result(str(number))

    assert await asyncio.gather(*callers) == ["0", "1"]


async def test_the_last_caller_stops_it_and_the_next_begins_anew() -> None:
    pulls = Pulls()
    first, second = pulls.start(2)
    await settled()

    first.cancel()
    await settled()
    assert not pulls.begun[0].cancelled()
    second.cancel()
    await settled()
    assert pulls.begun[0].cancelled()

    (third,) = pulls.start(1)
    await settled()
    pulls.begun[1].set_result("id")
    assert await third == "id"


async def test_who_comes_while_the_last_one_leaves_begins_anew() -> None:
    pulls = Pulls()
    (first,) = pulls.start(1)
    await settled()
    first.cancel()
    await asyncio.sleep(0)  # the pull is being cancelled, and has not ended
    (second,) = pulls.start(1)
    await settled()
    pulls.begun[1].set_result("id")
    assert await second == "id"


async def test_all_hear_of_a_failure() -> None:
    pulls = Pulls()
    callers = pulls.start(2)
    await settled()

    pulls.begun[0].set_exception(Unknown("on purpose"))

    for caller in callers:
        with pytest.raises(Unknown, match="on purpose"):
            await caller
