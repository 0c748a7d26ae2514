"""Calls whose caller goes away in the middle, and what comes between a call and its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from cri_dockerd_py.backends.base import Connected, ProcessExited
from cri_dockerd_py.core import container_stopping
from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.errors import CriError, FailedPrecondition, ResourceExhausted, Unavailable, Unknown
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxState
from cri_dockerd_py.model.security import NamespaceMode, NamespaceOptions, SandboxSecurity
from cri_dockerd_py.store.records import Records
from tests.core.conftest import Bench, app_spec, pod_spec

WITHIN_S = 20.0


class Barrier:
    """Holds up a step until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.open.wait()

    def behind(self, method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        """Return the method with its answer held up."""

        async def late(*args: object) -> object:
            answer = await method(*args)
            await self()
            return answer

        return late


@pytest.fixture
async def core(bench: Bench) -> AsyncIterator[Core]:
    """A core on an engine that makes namespaces."""
    async with bench.core(bench.docker) as core, asyncio.timeout(2 * WITHIN_S):
        yield core


@pytest.fixture
def barrier() -> Barrier:
    """A hold-up."""
    return Barrier()


async def container_of(core: Core, sandbox_id: str) -> str:
    """Create a container."""
    return await core.containers.create(sandbox_id, app_spec())


async def cancelled(task: asyncio.Future[object]) -> None:
    """Cancel a call, as a deadline does, and see it end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def in_background(call: Awaitable[object]) -> asyncio.Future[object]:
    """Make a call as a caller of its own."""
    return asyncio.ensure_future(call)


@pytest.mark.behaviour("STT-07", "STP-05")
async def test_what_a_caller_that_went_away_started_is_stopped(core: Core, bench: Bench, barrier: Barrier) -> None:
    sandbox_id = await core.sandboxes.run(pod_spec())
    container_id = await container_of(core, sandbox_id)
    bench.docker.hooks["start container"] = barrier
    start = in_background(core.containers.start(container_id))
    await barrier.reached.wait()
    await cancelled(start)
    stop = in_background(core.sandboxes.stop(sandbox_id))
    await asyncio.sleep(0.05)
    barrier.open.set()
    await stop
    assert core.inventory.sandboxes[sandbox_id].state is SandboxState.NOTREADY
    assert core.inventory.containers[container_id].state is ContainerState.EXITED
    assert not bench.docker.processes


@pytest.mark.behaviour("STT-01")
@pytest.mark.parametrize("verb", ["start", "stop", "remove"])
async def test_who_comes_after_a_caller_that_went_away_waits_for_the_start(
    core: Core, bench: Bench, barrier: Barrier, verb: str
) -> None:
    container_id = await container_of(core, await core.sandboxes.run(pod_spec()))
    bench.docker.hooks["start container"] = barrier
    start = in_background(core.containers.start(container_id))
    await barrier.reached.wait()
    await cancelled(start)
    verbs: dict[str, Awaitable[object]] = {
        "start": core.containers.start(container_id),
        "stop": core.containers.stop(container_id, 0),
        "remove": core.containers.remove(container_id),
    }
    for name, call in verbs.items():
        if name != verb:
            call.close()  # type: ignore[attr-defined]
    after = in_background(verbs[verb])
    await asyncio.sleep(0.05)
    assert not after.done()
    barrier.open.set()
    await after
    states = {"start": ContainerState.RUNNING, "stop": ContainerState.EXITED, "remove": None}
    found = core.inventory.containers.get(container_id)
    assert (found and found.state) is states[verb]
    assert bench.docker.steps.count("start container") == 1


@pytest.mark.behaviour("STT-01", "IDM-09")
async def test_a_second_start_beside_the_first_is_refused(core: Core, bench: Bench, barrier: Barrier) -> None:
    container_id = await container_of(core, await core.sandboxes.run(pod_spec()))
    bench.docker.hooks["start container"] = barrier
    for _ in range(2):  # the second one takes over what the first one began, and goes away as well
        start = in_background(core.containers.start(container_id))
        await barrier.reached.wait()
        await cancelled(start)
    resumed, second = (in_background(core.containers.start(container_id)) for _ in range(2))
    await asyncio.sleep(0.05)
    barrier.open.set()
    await resumed
    with pytest.raises(FailedPrecondition, match="is RUNNING: only a CREATED container can be started"):
        await second
    with pytest.raises(FailedPrecondition, match="is RUNNING: only a CREATED container can be started"):
        await core.containers.start(container_id)
    assert bench.docker.steps.count("start container") == 1


@pytest.mark.behaviour("GEN-14", "STT-01", "UCR-03", "UPS-01")
async def test_what_waits_for_its_turn_is_not_done_without_its_caller(
    core: Core, bench: Bench, barrier: Barrier
) -> None:
    sandbox_id = await core.sandboxes.run(pod_spec())
    container_id = await container_of(core, sandbox_id)
    bench.docker.hooks["update container"] = barrier
    first = in_background(core.containers.update_resources(container_id, Resources(cpu_shares=300)))
    await barrier.reached.wait()
    waiting = [
        in_background(core.containers.start(container_id)),
        in_background(core.containers.update_resources(container_id, Resources(cpu_shares=500))),
    ]
    await asyncio.sleep(0.05)
    for call in waiting:
        await cancelled(call)
    barrier.open.set()
    await first
    await core.containers.update_resources(container_id, Resources(cpuset_cpus="0"))
    container = core.inventory.containers[container_id]
    assert container.state is ContainerState.CREATED
    assert (container.resources.cpu_shares, container.resources.cpuset_cpus) == (300, "0")
    assert "start container" not in bench.docker.steps

    bench.docker.hooks["start container"] = held_up = Barrier()
    start = in_background(core.containers.start(container_id))
    await held_up.reached.wait()
    stop = in_background(core.sandboxes.stop(sandbox_id))
    await asyncio.sleep(0.05)
    resize = in_background(core.sandboxes.update_resources(sandbox_id, None, Resources(cpu_shares=2)))
    await asyncio.sleep(0.05)
    await cancelled(resize)
    held_up.open.set()
    await asyncio.gather(start, stop)
    await core.sandboxes.update_resources(sandbox_id, Resources(cpu_shares=3), None)
    spec = core.inventory.sandboxes[sandbox_id].spec
    assert (spec.overhead, spec.resources) == (Resources(cpu_shares=3), pod_spec().resources)


@pytest.mark.behaviour("UCR-03", "UCR-06")
async def test_limits_that_were_set_are_on_record_without_the_caller(
    core: Core, bench: Bench, barrier: Barrier
) -> None:
    container_id = await container_of(core, await core.sandboxes.run(pod_spec()))
    bench.docker.hooks["update container"] = barrier
    update = in_background(core.containers.update_resources(container_id, Resources(cpu_shares=300)))
    await barrier.reached.wait()
    await cancelled(update)
    barrier.open.set()
    bench.docker.hooks.clear()
    await core.containers.update_resources(container_id, Resources(cpuset_cpus="0"))
    resources = core.inventory.containers[container_id].resources
    assert (resources.cpu_shares, resources.cpuset_cpus) == (300, "0")


@pytest.mark.behaviour("EXS-05", "EXS-08")
@pytest.mark.parametrize("is_up", [False, True])
async def test_a_command_does_not_outlive_its_caller(core: Core, bench: Bench, barrier: Barrier, is_up: bool) -> None:
    container_id = await container_of(core, await core.sandboxes.run(pod_spec()))
    await core.containers.start(container_id)
    bench.docker.hooks["exec"] = barrier
    command = in_background(core.execution.exec_sync(container_id, ("sleep", "9"), 0))
    await barrier.reached.wait()
    if is_up:
        barrier.open.set()
        await asyncio.sleep(0.05)
    async with asyncio.timeout(2):
        await cancelled(command)
    barrier.open.set()
    async with asyncio.timeout(5):
        while bench.docker.steps[-2:] != ["kill exec", "close exec"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.behaviour("GEN-14", "CRE-07")
async def test_an_intent_of_a_caller_that_went_away_takes_nothing_of_the_next_one(
    core: Core, bench: Bench, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_id = await core.sandboxes.run(pod_spec())
    with monkeypatch.context() as patch:
        patch.setattr(Records, "begin_create_container", barrier.behind(Records.begin_create_container))
        create = in_background(container_of(core, sandbox_id))
        await barrier.reached.wait()
        create.cancel()
        await asyncio.sleep(0.01)
        barrier.open.set()
        await cancelled(create)
    container_id = await container_of(core, sandbox_id)
    await compared(bench)
    assert container_id in bench.docker.containers
    assert container_id in core.inventory.containers


@pytest.mark.behaviour("RUN-07", "CRE-07")
async def test_what_could_not_be_taken_back_takes_nothing_of_the_next_one(core: Core, bench: Bench) -> None:
    async def fail() -> None:
        raise Unknown("broken on purpose")

    sandbox_id = await core.sandboxes.run(pod_spec())
    bench.docker.hooks |= {"create container": fail, "discard container": fail}
    with pytest.raises(CriError):
        await container_of(core, sandbox_id)
    bench.docker.hooks.clear()
    container_id = await container_of(core, sandbox_id)
    await compared(bench)
    assert container_id in bench.docker.containers

    spec = pod_spec()
    bench.docker.hooks |= {"create sandbox": fail, "discard sandbox": fail}
    with pytest.raises(CriError):
        await core.sandboxes.run(spec)
    bench.docker.hooks.clear()
    sandbox_id = await core.sandboxes.run(spec)
    await core.sandboxes.stop(sandbox_id)
    await compared(bench)
    assert sandbox_id in bench.docker.sandboxes


async def compared(bench: Bench) -> None:
    """Have memory and engine compared, with what is left over taken back."""
    before = bench.docker.steps.count("snapshot")
    bench.docker.tell(Connected())
    while bench.docker.steps.count("snapshot") == before:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)


@pytest.mark.behaviour("RUN-03", "RUN-06")
async def test_a_pod_whose_first_process_ends_while_it_is_made_is_not_ready(
    core: Core, bench: Bench, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Records, "finish_sandbox", barrier.behind(Records.finish_sandbox))
        run = in_background(core.sandboxes.run(pod_spec()))
        await barrier.reached.wait()
    [sandbox_id] = bench.docker.processes
    bench.docker.kill(sandbox_id)
    bench.docker.tell(ProcessExited(sandbox_id, 137, time.time_ns()))
    await asyncio.sleep(0.05)
    barrier.open.set()
    with pytest.raises(Unavailable, match="ended while the pod was made"):
        await run
    assert not core.inventory.sandboxes
    assert not bench.docker.sandboxes
    assert not core.attachments.held


@pytest.mark.behaviour("STP-01", "STP-02", "STO-12")
@pytest.mark.parametrize("network", [NamespaceMode.POD, NamespaceMode.NODE])
async def test_a_pod_is_not_stopped_while_a_process_stays(
    core: Core, bench: Bench, monkeypatch: pytest.MonkeyPatch, network: NamespaceMode
) -> None:
    security = SandboxSecurity(NamespaceOptions(network=network))
    sandbox_id = await core.sandboxes.run(pod_spec(security=security))
    container_id = await container_of(core, sandbox_id)
    await core.containers.start(container_id)
    record = bench.docker.containers[container_id]
    monkeypatch.setattr(container_stopping, "_KILL_WITHIN_S", 0.2)

    async def stuck() -> None:
        bench.docker.containers[container_id] = replace(record, state=ContainerState.CREATED)

    async def still_there() -> None:
        bench.docker.containers[container_id] = record

    bench.docker.hooks |= {"signal SIGKILL": stuck, "inspect container": still_there}
    with pytest.raises(FailedPrecondition, match="stuck in the kernel"):
        await core.sandboxes.stop(sandbox_id)
    assert core.inventory.sandboxes[sandbox_id].state is SandboxState.NOTREADY
    assert core.inventory.containers[container_id].state is ContainerState.RUNNING
    bench.docker.hooks.clear()
    bench.docker.containers[container_id] = record
    await core.sandboxes.stop(sandbox_id)
    assert core.inventory.containers[container_id].state is ContainerState.EXITED


@pytest.mark.behaviour("STT-07", "STP-01")
async def test_a_container_whose_start_cannot_be_put_on_record_is_killed_with_its_pod(
    core: Core, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_args: object) -> None:
        raise ResourceExhausted("the disk is full")

    sandbox_id = await core.sandboxes.run(pod_spec())
    container_id = await container_of(core, sandbox_id)
    with monkeypatch.context() as patch:
        patch.setattr(Records, "put_container", full)
        with pytest.raises(ResourceExhausted):
            await core.containers.start(container_id)
    assert core.inventory.containers[container_id].state is ContainerState.RUNNING
    await core.sandboxes.stop(sandbox_id)
    assert not bench.docker.processes


@pytest.mark.behaviour("STT-02", "CST-14")
async def test_an_end_while_the_start_is_put_on_record_loses_nothing_of_it(
    core: Core, bench: Bench, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    container_id = await container_of(core, await core.sandboxes.run(pod_spec()))
    with monkeypatch.context() as patch:
        patch.setattr(Records, "put_container", barrier.behind(Records.put_container))
        start = in_background(core.containers.start(container_id))
        await barrier.reached.wait()
    bench.docker.tell(ProcessExited(container_id, 3, time.time_ns()))
    await core.inventory.wait_ended(container_id, WITHIN_S)
    barrier.open.set()
    await start
    ended = core.inventory.containers[container_id]
    assert (ended.state, ended.exit_code) == (ContainerState.EXITED, 3)
    assert ended.started_at_ns == bench.docker.containers[container_id].started_at_ns
    assert ended.user is not None


@pytest.mark.behaviour("STP-01", "GEN-17")
async def test_an_end_that_no_event_tells_of_is_seen_by_a_stop(core: Core, bench: Bench) -> None:
    sandbox_id = await core.sandboxes.run(pod_spec())
    container_id = await container_of(core, sandbox_id)
    await core.containers.start(container_id)
    bench.docker.kill(container_id)
    bench.docker.containers[container_id] = replace(
        bench.docker.containers[container_id], state=ContainerState.EXITED, exit_code=3, finished_at_ns=1, pid=0
    )
    async with asyncio.timeout(5):
        await core.sandboxes.stop(sandbox_id)
    ended = core.inventory.containers[container_id]
    assert (ended.state, ended.exit_code) == (ContainerState.EXITED, 3)


@pytest.mark.behaviour("STP-01", "STP-03")
async def test_a_container_of_which_nothing_is_known_is_killed_with_its_pod(bench: Bench) -> None:
    async with bench.core(bench.docker) as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
        container_id = await container_of(core, sandbox_id)
        await core.containers.start(container_id)
    bench.docker.containers[container_id] = replace(bench.docker.containers[container_id], state=ContainerState.UNKNOWN)
    async with bench.core(bench.docker) as core:
        assert core.inventory.containers[container_id].state is ContainerState.UNKNOWN
        await core.sandboxes.stop(sandbox_id)
        assert core.inventory.containers[container_id].state is ContainerState.EXITED
    assert not bench.docker.processes


@pytest.mark.behaviour("STP-01", "STP-04")
async def test_containers_are_killed_although_the_network_cannot_be_released(
    core: Core, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_id = await core.sandboxes.run(pod_spec())
    container_id = await container_of(core, sandbox_id)
    await core.containers.start(container_id)
    core.attachments.restore({})  # as of a pod of another shim

    async def broken(*_args: object) -> None:
        raise Unknown("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(core.attachments, "release", broken)
        with pytest.raises(Unknown, match="on purpose"):
            await core.sandboxes.stop(sandbox_id)
    assert core.inventory.containers[container_id].state is ContainerState.EXITED
    assert list(bench.docker.processes) == [sandbox_id]
    await core.sandboxes.stop(sandbox_id)
    assert not bench.docker.processes


@pytest.mark.behaviour("RMP-03", "UPS-01")
async def test_a_sandbox_that_was_resized_while_it_was_removed_is_gone(
    core: Core, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_id = await core.sandboxes.run(pod_spec())
    monkeypatch.setattr(Records, "put_sandbox", barrier.behind(Records.put_sandbox))
    update = in_background(core.sandboxes.update_resources(sandbox_id, None, Resources(cpu_shares=2)))
    await barrier.reached.wait()
    remove = in_background(core.sandboxes.remove(sandbox_id))
    await asyncio.sleep(0.1)
    barrier.open.set()
    await asyncio.gather(update, remove)
    assert sandbox_id not in core.inventory.sandboxes
