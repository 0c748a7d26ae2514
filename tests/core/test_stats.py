"""Stats of containers and pods, from real processes and cgroups."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.detect import reader_for
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.stats import Stats
from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.sandbox import SandboxState
from tests.cgroups.host import layout_or_none, until
from tests.core import stats_records
from tests.core.running_pods import RunningPods

LAYOUT = layout_or_none()
pytestmark = pytest.mark.skipif(LAYOUT is None, reason="cgroups cannot be made here")
BUSY = "print('ready', flush=True)\nwhile True: pass"


@pytest.fixture
def inventory() -> Inventory:
    """What is known of pods and containers."""
    made = Inventory()
    made.known = True
    return made


@pytest.fixture
def pods(inventory: Inventory) -> Iterator[RunningPods]:
    """Makes pods."""
    assert LAYOUT is not None
    made = RunningPods(LAYOUT, inventory)
    yield made
    made.close()


@pytest.fixture
async def stats(inventory: Inventory) -> AsyncIterator[Stats]:
    """The verbs under test."""
    assert LAYOUT is not None
    made = Stats(inventory, reader_for(LAYOUT), lambda engine: f"/var/lib/{engine}")
    made.start()
    yield made
    made.close()


@pytest.mark.behaviour("STS-02", "STS-03", "STS-04")
async def test_a_container(stats: Stats, pods: RunningPods) -> None:
    """A running container's figures are its own, with its names and a time."""
    record = pods.container(pods.sandbox(), "b = bytearray(b'x') * (20 << 20); print('ready', flush=True); input()")
    before_ns = time.time_ns()

    found = await stats.container(record.id[:12])

    assert (found.attributes.id, found.attributes.metadata.name) == (record.id, "app")
    assert (found.attributes.labels, found.attributes.annotations) == ({"tier": "front"}, {"note": "kept"})
    assert found.cpu is not None
    assert found.memory is not None
    assert before_ns <= found.cpu.timestamp_ns <= time.time_ns()
    assert found.cpu.usage_core_nano_seconds > 0
    assert found.memory.rss_bytes >= 20 << 20
    assert found.memory.working_set_bytes >= 20 << 20
    assert found.memory.available_bytes == 0


@pytest.mark.behaviour("STS-01")
async def test_a_container_without_stats(stats: Stats, inventory: Inventory) -> None:
    """An unknown one and an ended one are errors that say what to do."""
    ended = inventory.put_container(stats_records.container(state=ContainerState.EXITED))

    with pytest.raises(NotFound):
        await stats.container("f" * 64)
    with pytest.raises(FailedPrecondition, match="only running"):
        await stats.container(ended.id)


@pytest.mark.behaviour("STS-07")
async def test_timestamps_and_rates_move(stats: Stats, pods: RunningPods) -> None:
    """Two calls a second apart show two moments, and the second one the rate between them."""
    record = pods.container(pods.sandbox(), BUSY)
    [first] = await stats.containers(id=record.id)
    await asyncio.sleep(1.05)

    [second] = await stats.containers(id=record.id)

    assert first.cpu is not None
    assert second.cpu is not None
    assert second.cpu.timestamp_ns - first.cpu.timestamp_ns >= 1_000_000_000
    used_ns = second.cpu.usage_core_nano_seconds - first.cpu.usage_core_nano_seconds
    passed_ns = second.cpu.timestamp_ns - first.cpu.timestamp_ns
    assert first.cpu.usage_nano_cores is None
    assert second.cpu.usage_nano_cores == pytest.approx(used_ns * 1e9 / passed_ns, rel=0.05)


@pytest.mark.behaviour("STS-08")
async def test_filters(stats: Stats, pods: RunningPods, inventory: Inventory) -> None:
    """Ids and labels choose; ended containers are in the unfiltered list only, without CPU and memory."""
    one, two = pods.sandbox(), pods.sandbox()
    first, second = pods.container(one), pods.container(two)
    ended = inventory.put_container(stats_records.container(one.id, state=ContainerState.EXITED))
    created = inventory.put_container(stats_records.container(one.id, state=ContainerState.CREATED))

    everything = {found.attributes.id: found for found in await stats.containers()}

    assert everything.keys() == {first.id, second.id, ended.id, created.id}
    assert everything[ended.id].cpu is None
    assert everything[ended.id].memory is None
    assert [found.attributes.id for found in await stats.containers(sandbox_id=one.id[:10])] == [first.id]
    assert [found.attributes.id for found in await stats.containers(id=second.id[:10])] == [second.id]
    assert len(await stats.containers(labels={"tier": "front"})) == 2
    assert await stats.containers(labels={"tier": "back"}) == []


@pytest.mark.behaviour("STS-07")
async def test_what_has_ended_keeps_no_cgroup_open(stats: Stats, pods: RunningPods, inventory: Inventory) -> None:
    """An open file would keep a dead cgroup in the kernel, however stats are asked for."""
    before = _open_cgroup_files()
    pod = pods.sandbox()
    record = pods.container(pod)
    await stats.sandboxes()
    assert _open_cgroup_files() > before
    inventory.put_container(replace(record, state=ContainerState.EXITED, pid=0))
    inventory.put_sandbox(replace(pod, state=SandboxState.NOTREADY, pid=0))
    await stats.containers()
    assert _open_cgroup_files() == before


def _open_cgroup_files() -> int:
    links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return sum(link.startswith("/sys/fs/cgroup") for link in links)


@pytest.mark.behaviour("STS-09")
async def test_one_bad_container_does_not_fail_the_list(stats: Stats, pods: RunningPods, inventory: Inventory) -> None:
    """A container whose process is gone, or is somebody else's, is left out."""
    good = pods.container(pods.sandbox())
    inventory.put_container(stats_records.container(pid=2**22 + 1))
    inventory.put_container(stats_records.container(pid=os.getpid()))

    assert [found.attributes.id for found in await stats.containers()] == [good.id]


async def measured(stats: Stats, record: ContainerRecord) -> None:
    """Wait, in a thread, until the container's layer has been measured."""
    await asyncio.to_thread(until, lambda: stats.layers.usage(record.id) is not None, "a measurement", 5.0)


@pytest.mark.behaviour("STS-05")
async def test_the_writable_layer(stats: Stats, pods: RunningPods, tmp_path: Path) -> None:
    """What the container has written appears soon after it was first asked for, on the engine's directory."""
    (tmp_path / "file").write_bytes(b"x" * 50_000)
    record = pods.container(pods.sandbox(), layer=str(tmp_path))
    await measured(stats, record)

    layer = (await stats.container(record.id)).writable_layer

    assert layer is not None
    assert layer.used_bytes >= 50_000
    assert layer.inodes_used == 2
    assert layer.mountpoint == "/var/lib/docker"
    assert layer.timestamp_ns > 0


async def test_an_ended_container_keeps_its_layer(
    stats: Stats, pods: RunningPods, inventory: Inventory, tmp_path: Path
) -> None:
    """Space that a dead container takes is still taken."""
    record = pods.container(pods.sandbox(), layer=str(tmp_path))
    inventory.put_container(replace(record, state=ContainerState.EXITED, pid=0))
    await measured(stats, record)

    [found] = await stats.containers()
    layer = found.writable_layer

    assert layer is not None
    assert layer.inodes_used == 1


@pytest.mark.behaviour("PST-02", "PST-03")
async def test_a_pod(stats: Stats, pods: RunningPods, inventory: Inventory) -> None:
    """A pod's figures include its containers', its pause process and its network."""
    sandbox = pods.sandbox()
    first, second = pods.container(sandbox), pods.container(sandbox)
    inventory.put_container(stats_records.container(sandbox.id, state=ContainerState.EXITED))

    found = await stats.sandbox(sandbox.id)

    assert (found.attributes.id, found.attributes.metadata.namespace) == (sandbox.id, "shop")
    assert (found.attributes.labels, found.attributes.annotations) == ({"app": "web"}, {"pod-note": "kept"})
    assert {container.attributes.id for container in found.containers} == {first.id, second.id}
    assert found.cpu is not None
    assert found.memory is not None
    assert found.process is not None
    assert found.network is not None
    parts = [container.memory.working_set_bytes for container in found.containers if container.memory]
    assert found.memory.working_set_bytes > sum(parts) > 0
    assert found.process.process_count == 3
    assert found.network.timestamp_ns > 0


async def test_a_pod_without_a_cgroup_of_its_own(stats: Stats, pods: RunningPods) -> None:
    """Where no parent was named, the pod is the sum of its processes."""
    sandbox = pods.sandbox(named_parent=False)
    pods.container(sandbox)

    found = await stats.sandbox(sandbox.id)

    assert found.memory is not None
    assert found.process is not None
    assert found.process.process_count == 2
    [container] = found.containers
    assert container.memory is not None
    assert found.memory.usage_bytes > container.memory.usage_bytes


@pytest.mark.behaviour("PST-03")
async def test_a_pod_on_the_hosts_network(stats: Stats, pods: RunningPods) -> None:
    """It has no network figures: they would be the node's."""
    found = await stats.sandbox(pods.sandbox(host_network=True).id)

    assert found.network is None


@pytest.mark.behaviour("PST-04", "PST-05")
async def test_pods_that_are_not_ready(stats: Stats, pods: RunningPods, inventory: Inventory) -> None:
    """One is an error by itself and left out of lists, as is one whose processes are gone."""
    ready = pods.sandbox()
    stopped = inventory.put_sandbox(stats_records.sandbox(state=SandboxState.NOTREADY))
    inventory.put_sandbox(stats_records.sandbox(pid=2**22 + 1))

    with pytest.raises(FailedPrecondition, match="not ready"):
        await stats.sandbox(stopped.id)
    assert [found.attributes.id for found in await stats.sandboxes()] == [ready.id]
    assert [found.attributes.id for found in await stats.sandboxes(id=ready.id[:8])] == [ready.id]
    assert [found.attributes.id for found in await stats.sandboxes(labels={"app": "web"})] == [ready.id]
    assert await stats.sandboxes(labels={"app": "other"}) == []


@pytest.mark.behaviour("PST-06")
async def test_pod_timestamps_move(stats: Stats, pods: RunningPods) -> None:
    """Two calls show two moments."""
    sandbox = pods.sandbox()
    first = await stats.sandbox(sandbox.id)
    await asyncio.sleep(0.15)
    second = await stats.sandbox(sandbox.id)

    assert first.cpu is not None
    assert second.cpu is not None
    assert second.cpu.timestamp_ns > first.cpu.timestamp_ns


@pytest.mark.behaviour("STS-12")
async def test_fifty_containers_cost_little(stats: Stats, pods: RunningPods) -> None:
    """A sample of fifty containers takes a few milliseconds of CPU once their files are open."""
    sandbox = pods.sandbox()
    for _ in range(50):
        pods.container(sandbox)
    assert len(await stats.containers()) == 50
    costs: list[float] = []
    for _ in range(8):
        await asyncio.sleep(0.11)
        began = time.process_time()
        await stats.containers()
        costs.append(time.process_time() - began)

    assert min(costs) < 0.020
