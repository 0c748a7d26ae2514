"""When an engine's whole state is read again."""

from __future__ import annotations

import asyncio

from cri_dockerd_py.backends.base import Connected
from tests.core.conftest import Bench


async def test_a_stream_that_opens_during_a_comparison_asks_for_another_one(bench: Bench) -> None:
    async with bench.core(bench.docker) as core:
        before = bench.docker.steps.count("snapshot")
        reading, go_on = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            reading.set()
            await go_on.wait()

        bench.docker.hooks["snapshot"] = wait
        async with asyncio.timeout(10):
            bench.docker.tell(Connected())
            await reading.wait()
            bench.docker.tell(Connected())
            bench.docker.tell(Connected())
            await asyncio.sleep(0.05)
            go_on.set()
            await core._jobs.close(within_s=10)

        assert bench.docker.steps.count("snapshot") == before + 2
