"""When an engine's whole state is read again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import Connected, EngineEvent, ImagesChanged, ProcessExited
from cri_dockerd_py.errors import ResourceExhausted
from cri_dockerd_py.model.container import ContainerState, ImageSpec
from tests.core.conftest import IMAGE_ID, Bench, app_image, app_spec, pod_spec
from tests.core.fake_engine import World
from tests.small_disk import small_disk


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


OTHER_IMAGE, OTHER_ID = "docker.io/library/other:1", "sha256:" + "2" * 64
FOREIGN_ID = "sha256:" + "3" * 64


@contextlib.asynccontextmanager
async def held_up(world: World, step: str) -> AsyncIterator[None]:
    """Hold up the next call that comes to this step until the end of the context; enter it when one has come there."""
    there, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        there.set()
        await go_on.wait()

    world.hooks[step] = wait
    await there.wait()
    del world.hooks[step]
    try:
        yield
    finally:
        go_on.set()


@pytest.mark.behaviour("IMG-20", "IMG-30", "IMG-50")
@pytest.mark.parametrize(
    ("event", "step"), [(ImagesChanged(), "answer images"), (Connected(), "answer snapshot")], ids=["refresh", "resync"]
)
async def test_images_that_change_behind_an_answer_stay_changed(bench: Bench, event: EngineEvent, step: str) -> None:
    """By calls whose events do not come."""
    bench.docker.pullable[OTHER_IMAGE] = app_image(OTHER_ID, [OTHER_IMAGE])
    async with bench.core(bench.docker) as core, asyncio.timeout(10):
        bench.docker.tell(event)
        async with held_up(bench.docker, step):
            assert await core.images.pull(ImageSpec(OTHER_IMAGE), None, None) == OTHER_ID
            await core.images.remove(IMAGE_ID)
        await core._jobs.close(within_s=5)
        assert core.inventory.images.keys() == {OTHER_ID}


@pytest.mark.behaviour("IMG-20")
async def test_an_event_during_a_refresh_asks_for_another_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cri_dockerd_py.core.feed._IMAGES_SETTLE_S", 0.01)
    async with bench.core(bench.docker) as core, asyncio.timeout(10):
        bench.docker.tell(ImagesChanged())
        async with held_up(bench.docker, "answer images"):
            bench.docker.images = {FOREIGN_ID: app_image(FOREIGN_ID)}
            bench.docker.tell(ImagesChanged())
            await asyncio.sleep(0.05)
        await core._jobs.close(within_s=5)
        assert core.inventory.images.keys() == {FOREIGN_ID}


@pytest.mark.behaviour("IMG-20")
async def test_a_refresh_during_a_comparison_is_newer_than_that(bench: Bench) -> None:
    async with bench.core(bench.docker) as core, asyncio.timeout(10):
        bench.docker.tell(Connected())
        async with held_up(bench.docker, "answer snapshot"):
            bench.docker.images = {FOREIGN_ID: app_image(FOREIGN_ID)}
            await core.images.refresh("docker")
        await core._jobs.close(within_s=5)
        assert core.inventory.images.keys() == {FOREIGN_ID}


async def test_ends_are_seen_while_the_disk_is_full(bench: Bench, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        bench.directory = disk.path
        async with bench.core(bench.docker) as core, asyncio.timeout(30):
            sandbox_id = await core.sandboxes.run(pod_spec())
            ids = [await core.containers.create(sandbox_id, app_spec(name)) for name in ("one", "two")]
            for container_id in ids:
                await core.containers.start(container_id)
            disk.fill()
            for container_id in ids:
                bench.docker.kill(container_id)
                bench.docker.tell(ProcessExited(container_id, 137, 1))
                while core.inventory.containers[container_id].state is not ContainerState.EXITED:
                    await core.migration.wait_changed(core.migration.generation, 1.0)
            with pytest.raises(ResourceExhausted, match="make room"):
                await core.sandboxes.run(pod_spec())
            disk.make_room()
            await core.sandboxes.remove(sandbox_id)
