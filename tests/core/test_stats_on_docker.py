"""Stats of containers that a real Docker Engine runs, compared with what the engine says itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from docker.models.containers import Container

from cri_dockerd_py.cgroups.detect import reader_for
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.stats import Stats
from cri_dockerd_py.model.container import ContainerRecord
from tests import images
from tests.cgroups.host import layout_or_none, until
from tests.core import stats_records
from tests.engines import DockerEngine

LAYOUT = layout_or_none()
pytestmark = pytest.mark.skipif(LAYOUT is None, reason="cgroups cannot be read here")
MIB = 1024 * 1024
SCRIPT = "dd if=/dev/zero of=/written bs=1M count=3; mkdir /d; touch /d/a /d/b; sync; echo done; exec sleep 600"


@dataclass
class Running:
    """A container and its record."""

    container: Container
    record: ContainerRecord


@pytest.fixture
def running(docker_engine: DockerEngine) -> Iterator[Running]:
    """A container with a memory limit that has written 3 MiB and three inodes."""
    container = docker_engine.client.containers.run(
        images.BUSYBOX,
        ["sh", "-c", SCRIPT],
        network_mode="none",
        detach=True,
        mem_limit=64 * MIB,
        memswap_limit=64 * MIB,
    )
    until(lambda: b"done" in container.logs(), "the writing")
    container.reload()
    record = stats_records.container(id=container.id, pid=container.attrs["State"]["Pid"])
    yield Running(container, record)
    container.remove(force=True)


@pytest.fixture
async def stats(running: Running) -> AsyncIterator[Stats]:
    """The verbs, knowing that container."""
    assert LAYOUT is not None
    inventory = Inventory()
    inventory.known = True
    inventory.put_container(running.record)
    made = Stats(inventory, reader_for(LAYOUT), lambda _engine: "/")
    made.start()
    yield made
    made.close()


@pytest.mark.behaviour("STS-03", "STS-04")
async def test_it_agrees_with_the_engine(stats: Stats, running: Running) -> None:
    """CPU time and memory of an idle container are what the engine's own statistics say."""
    found = await stats.container(running.record.id)
    theirs = await asyncio.to_thread(running.container.stats, stream=False, one_shot=True)
    memory = theirs["memory_stats"]
    inactive = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file"))

    assert found.cpu is not None
    assert found.memory is not None
    assert found.cpu.usage_core_nano_seconds == pytest.approx(theirs["cpu_stats"]["cpu_usage"]["total_usage"], rel=0.05)
    assert found.memory.usage_bytes == pytest.approx(memory["usage"], abs=MIB)
    assert found.memory.working_set_bytes == pytest.approx(max(0, memory["usage"] - inactive), abs=MIB)
    assert found.memory.available_bytes == 64 * MIB - found.memory.working_set_bytes


@pytest.mark.behaviour("STS-05")
async def test_the_writable_layer(stats: Stats, running: Running) -> None:
    """What was written is counted: 3 MiB, and the root, two files, a directory and a file as inodes at least."""
    await asyncio.to_thread(until, lambda: stats.layers.usage(running.record.id) is not None, "a measurement", 5.0)

    layer = (await stats.container(running.record.id)).writable_layer

    assert layer is not None
    assert 3 * MIB <= layer.used_bytes <= 4 * MIB
    assert 5 <= layer.inodes_used <= 12
