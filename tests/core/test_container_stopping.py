"""Who has been asked to stop."""

from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.backends.base import ObjectGone
from tests.core.conftest import Bench, app_spec, pod_spec


@pytest.mark.behaviour("STO-06", "RMP-01")
async def test_a_container_is_forgotten_however_it_goes(bench: Bench) -> None:
    async with bench.core(bench.docker) as core, asyncio.timeout(20):
        asked = core.containers._stopping._asked
        sandbox_id, container_ids = await core.sandboxes.run(pod_spec()), []
        for name in ("removed", "gone", "with its sandbox"):
            container_ids.append(await core.containers.create(sandbox_id, app_spec(name)))
            await core.containers.start(container_ids[-1])
            await core.containers.stop(container_ids[-1], 5)
        assert asked == set(container_ids)

        await core.containers.remove(container_ids[0])
        assert asked == set(container_ids[1:])
        gone = asyncio.Event()
        core.inventory.on_container.append(lambda _old, _new: gone.set())
        bench.docker.tell(ObjectGone(container_ids[1]))
        await gone.wait()
        assert asked == set(container_ids[2:])
        await core.sandboxes.stop(sandbox_id)
        await core.sandboxes.remove(sandbox_id)
        assert not asked
