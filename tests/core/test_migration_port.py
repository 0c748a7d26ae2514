"""What moving pods between engines needs of core."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.core.events import ContainerEvent, ContainerEventType
from cri_dockerd_py.errors import FailedPrecondition, Unknown
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxState
from cri_dockerd_py.model.security import NamespaceMode, NamespaceOptions, SandboxSecurity
from tests.core.conftest import Bench, app_spec, pod_spec


async def running_pod(core: Core, uid: str = "pod") -> tuple[str, str]:
    """Run a pod with a container; return both ids."""
    sandbox_id = await core.sandboxes.run(pod_spec(uid))
    container_id = await core.containers.create(sandbox_id, app_spec())
    await core.containers.start(container_id)
    return sandbox_id, container_id


@pytest.mark.behaviour("RCR-30", "EVT-03")
async def test_a_sandbox_is_shown_as_not_ready_while_it_runs(bench: Bench) -> None:
    events: list[ContainerEvent] = []

    async def listen(core: Core) -> None:
        async for event in core.events.subscribe():
            events.append(event)

    async with bench.core() as core:
        sandbox_id, container_id = await running_pod(core)
        listener = asyncio.ensure_future(listen(core))
        await asyncio.sleep(0)
        await core.migration.report_not_ready(sandbox_id)
        await core.migration.report_not_ready(sandbox_id)
        await asyncio.sleep(0)
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listener

        assert [(event.container_id, event.type) for event in events] == [(sandbox_id, ContainerEventType.STOPPED)]
        for _ in range(2):
            assert core.inventory.sandboxes[sandbox_id].state is SandboxState.NOTREADY
            assert core.inventory.sandboxes[sandbox_id].pid == bench.docker.sandboxes[sandbox_id].pid
            assert core.inventory.containers[container_id].state is ContainerState.RUNNING
            await core._feeds["docker"]._try_resync()
        with pytest.raises(FailedPrecondition):
            await core.containers.create(sandbox_id, app_spec("more"))

    async with bench.core() as core:
        assert core.inventory.sandboxes[sandbox_id].state is SandboxState.NOTREADY
        await core.containers.stop(container_id, 5)
        await core.sandboxes.stop(sandbox_id)
        assert not bench.docker.sandboxes[sandbox_id].pid
        assert not bench.network.leases()
        await core.sandboxes.remove(sandbox_id)


@pytest.mark.behaviour("RCR-30")
async def test_a_stop_of_a_host_network_pod_that_is_shown_as_not_ready_stops_it(bench: Bench) -> None:
    security = SandboxSecurity(namespaces=NamespaceOptions(network=NamespaceMode.NODE))
    async with bench.core() as core:
        sandbox_id = await core.sandboxes.run(pod_spec(security=security))
        await core.migration.report_not_ready(sandbox_id)
        await core.sandboxes.stop(sandbox_id)
        assert not bench.docker.sandboxes[sandbox_id].pid
        await core.sandboxes.remove(sandbox_id)


async def test_it_can_be_taken_back(bench: Bench) -> None:
    async with bench.core() as core:
        sandbox_id, _ = await running_pod(core)
        await core.migration.report_not_ready(sandbox_id)
        await core.migration.report_ready(sandbox_id)
        assert core.inventory.sandboxes[sandbox_id].state is SandboxState.READY
        await core.migration.report_not_ready(sandbox_id)
        await core.sandboxes.stop(sandbox_id)
        with pytest.raises(FailedPrecondition, match="does not run any more"):
            await core.migration.report_ready(sandbox_id)
        await core.sandboxes.remove(sandbox_id)
    async with bench.core() as core:
        assert not core.inventory.withheld


@pytest.mark.behaviour("RCR-16", "RCR-18")
async def test_a_move_as_kubelet_makes_it(bench: Bench) -> None:
    async with bench.core() as core:
        old, old_container = await running_pod(core)
        await core.migration.pin("pod", "containerd")
        await core.migration.report_not_ready(old)
        generation = core.migration.generation

        async def kubelet() -> None:
            await core.containers.stop(old_container, 5)
            await core.sandboxes.stop(old)
            new = await core.sandboxes.run(pod_spec("pod", 1))
            await core.containers.start(await core.containers.create(new, app_spec(attempt=1)))

        job = asyncio.ensure_future(kubelet())
        async with asyncio.timeout(10):
            while not any(
                one.engine == "containerd" and one.state is ContainerState.RUNNING
                for one in core.migration.containers.values()
            ):
                generation = await core.migration.wait_changed(generation, 5)
        await job
        await core.migration.bury(old)
        await core.migration.bury(old)
        assert not bench.docker.sandboxes
        assert not bench.docker.containers
    async with bench.core(bench.containerd) as core:  # the old engine is uninstalled
        record = core.inventory.container(old_container)
        assert (record.state, record.exit_code, record.engine) == (ContainerState.EXITED, 143, "docker")
        assert core.inventory.sandbox(old).state is SandboxState.NOTREADY
        assert core.migration.is_tombstone(old)
        assert core.migration.is_tombstone(old_container)
        assert (await core.containers.verbose(old_container))["tombstone"]
        assert (await core.sandboxes.verbose(old))["tombstone"]

        await core.sandboxes.stop(old)
        await core.containers.stop(old_container, 5)
        await core.containers.remove(old_container)
        await core.sandboxes.remove(old)
        [left] = core.inventory.list_sandboxes()
        await core.sandboxes.remove(left.id)
    async with bench.core(bench.containerd) as core:
        assert not core.inventory.sandboxes
        assert not core.inventory.containers


@pytest.mark.behaviour("RCR-18")
async def test_a_burial_that_was_cut_off_is_finished(bench: Bench) -> None:
    async def fail() -> None:
        raise Unknown("not now")

    async with bench.core() as core:
        sandbox_id, container_id = await running_pod(core)
        unborn = await core.containers.create(sandbox_id, app_spec("unborn"))
        with pytest.raises(FailedPrecondition, match="stop it first"):
            await core.migration.bury(sandbox_id)
        await core.sandboxes.stop(sandbox_id)
        bench.docker.hooks["remove sandbox"] = fail
        with pytest.raises(Unknown):
            await core.migration.bury(sandbox_id)
        assert unborn not in core.inventory.containers
    del bench.docker.hooks["remove sandbox"]
    async with bench.core() as core:
        assert core.inventory.sandboxes.keys() == {sandbox_id}
        assert core.inventory.containers.keys() == {container_id}
        assert not bench.docker.sandboxes
        await core._feeds["docker"]._try_resync()
        assert core.inventory.containers.keys() == {container_id}
        await core.sandboxes.remove(sandbox_id)
        assert not core.inventory.containers


@pytest.mark.behaviour("RCR-18", "LOG-01")
async def test_a_log_that_is_a_link_to_the_engines_file_is_kept(bench: Bench) -> None:
    async with bench.core() as core:
        directory = bench.directory / "logs"
        sandbox_id = await core.sandboxes.run(pod_spec(log_directory=str(directory)))
        container_id = await core.containers.create(sandbox_id, replace(app_spec(), log_path="app/0.log"))
        (bench.directory / "engine.log").write_text("what was printed\n")
        log = directory / "app" / "0.log"
        log.symlink_to(bench.directory / "engine.log")
        await core.containers.start(container_id)
        await core.sandboxes.stop(sandbox_id)
        await core.migration.bury(sandbox_id)
        (bench.directory / "engine.log").unlink()
        assert core.inventory.containers[container_id].log_path == str(log)
        assert log.read_text() == "what was printed\n"
        assert [path.name for path in log.parent.iterdir()] == ["0.log"]
        await core.sandboxes.remove(sandbox_id)


async def test_a_log_that_is_lost_already_is_no_obstacle(bench: Bench) -> None:
    async with bench.core() as core:
        directory = bench.directory / "logs"
        sandbox_id = await core.sandboxes.run(pod_spec(log_directory=str(directory)))
        container_id = await core.containers.create(sandbox_id, replace(app_spec(), log_path="app/0.log"))
        (directory / "app" / "0.log").symlink_to(bench.directory / "no-such-file")
        await core.containers.start(container_id)
        await core.sandboxes.stop(sandbox_id)
        await core.migration.bury(sandbox_id)
        await core.sandboxes.remove(sandbox_id)
