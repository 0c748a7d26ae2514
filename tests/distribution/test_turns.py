"""When transfers begin."""

from __future__ import annotations

import asyncio

from cri_dockerd_py.distribution.descriptor import digest_of
from cri_dockerd_py.distribution.digest_check import DigestCheck
from cri_dockerd_py.distribution.turns import Turns


class _Transfers:
    """Transfers that note when they begin, and end when they are told."""

    def __init__(self, turns: Turns, count: int) -> None:
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.ends = [asyncio.Event() for _ in range(count)]
        self._turns = turns

    async def run(self, number: int) -> None:
        async with self._turns.slots, self._turns.turn():
            self.begun.put_nowait(number)
            await self.ends[number].wait()

    async def next(self) -> int:
        async with asyncio.timeout(5):
            return await self.begun.get()


async def test_the_next_begins_when_the_one_before_has_ended_or_takes_long() -> None:
    transfers = _Transfers(Turns(2), 4)
    async with asyncio.TaskGroup() as jobs:
        for number in range(4):
            jobs.create_task(transfers.run(number))
        assert await transfers.next() == 0
        assert transfers.begun.empty()
        transfers.ends[0].set()
        assert [await transfers.next() for _ in range(2)] == [1, 2]
        assert transfers.begun.empty()
        transfers.ends[1].set()
        assert await transfers.next() == 3
        for end in transfers.ends:
            end.set()


async def test_a_transfer_that_fails_lets_the_next_begin() -> None:
    turns = Turns(1)
    for _ in range(3):
        try:
            async with asyncio.timeout(5), turns.slots, turns.turn():
                raise ValueError
        except ValueError:
            pass


async def test_digests_of_pieces() -> None:
    content = [bytes([n]) * 400_000 for n in range(10)]
    for wrong in (b"", b"more"):
        check = DigestCheck(digest_of(b"".join(content)))
        for piece in [*content, wrong]:
            await check.add(piece)
        assert await check.passes() is not bool(wrong)
