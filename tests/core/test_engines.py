"""Several engines behind one inventory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.errors import InvalidArgument, NotFound, Unavailable
from cri_dockerd_py.model.container import ContainerState, ImageSpec
from cri_dockerd_py.model.sandbox import SandboxState
from tests.core.conftest import IMAGE, Bench, app_spec, pod_spec


async def until(core: Core, condition: Callable[[], bool]) -> None:
    """Wait for a change of the inventory after which `condition` is true."""
    async with asyncio.timeout(10):
        while not condition():
            await core.migration.wait_changed(core.inventory.generation, 0.05)


async def test_new_pods_go_to_the_default_engine_which_survives_a_restart(bench: Bench) -> None:
    async with bench.core() as core:
        first = await core.sandboxes.run(pod_spec())
        await core.engines.set_default("containerd")
        second = await core.sandboxes.run(pod_spec())
        await core.engines.pin("pinned", "docker")
        third = await core.sandboxes.run(pod_spec("pinned"))
        with pytest.raises(InvalidArgument, match="served are: docker, containerd"):
            await core.engines.set_default("podman")
    async with bench.core() as core:
        engines = {record.id: record.engine for record in core.inventory.list_sandboxes()}
        assert engines == {first: "docker", second: "containerd", third: "docker"}
        assert core.engines.default.name == "containerd"
        await core.engines.unpin("pinned")
        fourth = await core.sandboxes.run(pod_spec("pinned", 1))
        assert core.inventory.sandboxes[fourth].engine == "containerd"
        for sandbox_id in (first, second, third, fourth):
            await core.sandboxes.remove(sandbox_id)
    assert not bench.docker.sandboxes
    assert not bench.containerd.sandboxes
    assert not bench.network.leases()


async def test_each_object_is_served_by_its_engine(bench: Bench) -> None:
    async with bench.core() as core:
        on_docker = await core.sandboxes.run(pod_spec())
        await core.engines.set_default("containerd")
        container = await core.containers.create(on_docker, app_spec())
        await core.containers.start(container)

        assert container in bench.docker.containers
        assert core.inventory.containers[container].engine == "docker"
        await core.containers.stop(container, 5)
        assert core.inventory.containers[container].state is ContainerState.EXITED
        await core.sandboxes.remove(on_docker)
        assert not core.inventory.containers
        assert not [step for step in bench.containerd.steps if step not in ("snapshot", "list images")]


@pytest.mark.behaviour("LSB-09")
async def test_an_engine_that_is_away_leaves_the_other_fully_served(bench: Bench) -> None:
    async with bench.core() as core:
        on_docker = await core.sandboxes.run(pod_spec())
        await core.engines.set_default("containerd")
        bench.docker.leave()
        await until(core, lambda: not core.engines.of("docker").health.ready)

        on_containerd = await core.sandboxes.run(pod_spec())
        container = await core.containers.create(on_containerd, app_spec())
        await core.containers.start(container)
        assert {one.id for one in core.inventory.list_sandboxes()} == {on_docker, on_containerd}
        assert [condition.status for condition in core.status.conditions()] == [True, True]
        with pytest.raises(Unavailable, match="docker cannot be reached"):
            await core.containers.create(on_docker, app_spec())
        with pytest.raises(Unavailable, match="docker cannot be reached"):
            await core.sandboxes.remove(on_docker)

        await core.engines.set_default("docker")
        runtime = core.status.conditions()[0]
        assert (runtime.status, runtime.reason) == (False, "EngineNotReady")
        bench.docker.come_back()
        await until(core, lambda: core.engines.of("docker").health.ready)
        await core.sandboxes.remove(on_docker)
        await core.sandboxes.remove(on_containerd)


@pytest.mark.behaviour("LSB-09", "GEN-12")
async def test_a_start_without_one_engine_shows_what_was_seen_last(bench: Bench) -> None:
    async with bench.core() as core:
        spec = pod_spec()
        kept = await core.sandboxes.run(spec)
        container = await core.containers.create(kept, app_spec())
        await core.containers.start(container)
        removed = await core.sandboxes.run(pod_spec())
        bench.docker.leave()
        await until(core, lambda: not core.engines.of("docker").health.ready)
        bench.docker.come_back()
        await until(core, lambda: core.engines.of("docker").health.ready)
        await core.sandboxes.remove(removed)
        late = await core.sandboxes.run(pod_spec())  # after the last look at the engine
    bench.docker.away = True
    async with bench.core() as core:
        listed = {one.id: (one.state, one.ips) for one in core.inventory.list_sandboxes()}
        assert listed.keys() == {kept, late}
        assert all(state is SandboxState.READY and ips for state, ips in listed.values())
        assert core.inventory.containers[container].state is ContainerState.RUNNING
        assert core.inventory.containers[container].pid == 0
        assert len(bench.network.leases()) == 2

        bench.docker.come_back()
        await until(core, lambda: core.engines.of("docker").health.ready)
        assert core.inventory.containers[container].pid == bench.docker.containers[container].pid
        assert core.inventory.sandboxes[kept].pid == bench.docker.sandboxes[kept].pid
        await core.sandboxes.remove(kept)
        await core.sandboxes.remove(late)


@pytest.mark.behaviour("LSB-09")
async def test_nothing_is_listed_while_an_engine_was_never_seen(bench: Bench) -> None:
    bench.containerd.away = True
    async with bench.core() as core:
        with pytest.raises(Unavailable):
            core.inventory.list_sandboxes()
        sandbox_id = await core.sandboxes.run(pod_spec())
        bench.containerd.come_back()
        await until(core, lambda: core.inventory.known)
        assert [one.id for one in core.inventory.list_sandboxes()] == [sandbox_id]
        await core.sandboxes.remove(sandbox_id)


async def test_half_made_things_are_taken_back_on_the_engine_where_they_were_begun(bench: Bench) -> None:
    async with bench.core() as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
    async with bench.core(bench.docker) as core:
        await core._records.begin_run_sandbox(pod_spec(), "docker")
        await core._records.begin_run_sandbox(pod_spec(), "containerd", "cd" * 32)
    for world in (bench.docker, bench.containerd):
        world.steps.clear()
    async with bench.core() as core:
        assert bench.docker.steps.count("discard sandbox") == 1
        assert bench.containerd.steps.count("discard sandbox") == 1
        await core.sandboxes.remove(sandbox_id)


async def test_handlers_are_those_of_the_engine_where_the_pod_is_made(bench: Bench) -> None:
    async with bench.core() as core:
        spec = pod_spec(runtime_handler="only-containerd")
        assert [one.name for one in core.status.handlers()] == ["", "only-docker"]
        with pytest.raises(InvalidArgument, match="configured on docker"):
            await core.sandboxes.run(spec)
        await core.engines.pin(spec.metadata.uid, "containerd")
        await core.sandboxes.remove(await core.sandboxes.run(spec))
        shown = core.status.verbose()
        assert shown["defaultEngine"] == "docker"
        assert [one["name"] for one in shown["engines"]] == ["docker", "containerd"]  # type: ignore[attr-defined]


async def test_the_name_stays_that_of_the_first_engine(bench: Bench) -> None:
    async with bench.core(bench.docker) as core:
        assert core.status.version()[0] == "docker"
    async with bench.core() as core:
        await core.engines.set_default("containerd")
    async with bench.core(bench.containerd) as core:
        assert core.status.version()[0] == "docker"


async def test_a_node_that_begins_on_containerd_says_so(bench: Bench) -> None:
    async with bench.core(bench.containerd) as core:
        assert core.status.version()[0] == "containerd"


# --- images


@pytest.mark.behaviour("IMG-67")
async def test_a_pull_goes_where_the_next_container_is_made(bench: Bench) -> None:
    for world in (bench.docker, bench.containerd):
        world.pullable = dict.fromkeys([IMAGE], next(iter(world.images.values())))
        world.images.clear()
    async with bench.core() as core:
        spec = pod_spec()
        sandbox_id = await core.sandboxes.run(spec)
        await core.engines.set_default("containerd")

        await core.images.pull(ImageSpec("app:1"), None, spec)
        assert (len(bench.docker.images), len(bench.containerd.images)) == (1, 0)
        assert core.images.find("app:1") is None
        [listed] = core.inventory.list_images()
        assert core.images.find(listed.id) == listed
        await core.containers.create(sandbox_id, app_spec())

        await core.images.pull(ImageSpec("app:1"), None, None)
        assert len(bench.containerd.images) == 1
        assert core.images.find("app:1") is not None
        assert len(core.inventory.list_images()) == 1
        await core.sandboxes.remove(sandbox_id)


@pytest.mark.behaviour("IMG-67", "CRE-04")
async def test_an_image_of_the_other_engine_cannot_be_used(bench: Bench) -> None:
    bench.docker.images.clear()
    async with bench.core() as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
        with pytest.raises(NotFound, match="not on this node's docker"):
            await core.containers.create(sandbox_id, app_spec())
        await core.sandboxes.remove(sandbox_id)


@pytest.mark.behaviour("IMG-67")
async def test_removal_acts_on_every_engine(bench: Bench) -> None:
    async with bench.core() as core:
        [listed] = core.inventory.list_images()
        assert listed.size_bytes == 20
        await core.images.remove(listed.id)
        assert not bench.docker.images
        assert not bench.containerd.images
        assert core.inventory.list_images() == []


@pytest.mark.behaviour("IMG-60", "IMG-61")
async def test_one_file_system_is_told_of_once(bench: Bench) -> None:
    async with bench.core() as core:
        await until(core, lambda: all(side.health.ready for side in core.engines))
        images, _ = core.images.filesystems()
        assert [(one.mountpoint, one.used_bytes) for one in images] == [("/", 200)]
    bench.containerd.mountpoint, bench.containerd.used_bytes = "/proc", 7
    async with bench.core() as core:
        await core.engines.set_default("containerd")
        images, _ = core.images.filesystems()
        assert [(one.mountpoint, one.used_bytes) for one in images] == [("/proc", 7), ("/", 100)]
