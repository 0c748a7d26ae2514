"""Sandboxes on an engine that takes a network namespace, and on one that makes it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cri_dockerd_py.errors import CriError, NotFound, Unavailable, Unknown
from cri_dockerd_py.model.sandbox import SandboxState
from cri_dockerd_py.model.security import NamespaceMode, NamespaceOptions, SandboxSecurity
from cri_dockerd_py.store.database import Database
from cri_dockerd_py.store.records import Attachment, Records
from tests.core.conftest import Bench, pod_spec
from tests.processes import wait_until


def nothing_left(bench: Bench) -> bool:
    worlds = (bench.docker, bench.containerd)
    return not (bench.netns.names() or bench.network.leases() or any(world.sandboxes for world in worlds))


@pytest.mark.behaviour("RUN-01")
async def test_the_process_starts_while_the_network_is_set_up(bench: Bench) -> None:
    begun, world = asyncio.Event(), bench.containerd

    async def wait_for_network() -> None:
        await asyncio.to_thread(wait_until, lambda: bool(bench.network.leases()), "an address", 10)
        begun.set()

    world.hooks["start sandbox"] = wait_for_network
    async with bench.core(world) as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
        record = core.inventory.sandboxes[sandbox_id]

        assert begun.is_set()
        assert record.ips == tuple(bench.network.leases())
        assert os.stat(record.netns_path).st_ino == os.stat(f"/proc/{record.pid}/ns/net").st_ino
        await core.sandboxes.stop(sandbox_id)
        await core.sandboxes.remove(sandbox_id)
    assert nothing_left(bench)


@pytest.mark.behaviour("RUN-06")
@pytest.mark.parametrize("step", ["create sandbox", "start sandbox"])
async def test_a_failed_step_takes_the_network_back(bench: Bench, step: str) -> None:
    async def fail() -> None:
        raise Unknown("no such luck")

    bench.containerd.hooks[step] = fail
    async with bench.core(bench.containerd) as core:
        spec = pod_spec()
        with pytest.raises(Unknown, match="no such luck"):
            await core.sandboxes.run(spec)
        assert nothing_left(bench)
        del bench.containerd.hooks[step]
        await core.sandboxes.remove(await core.sandboxes.run(spec))


@pytest.mark.behaviour("RUN-06")
async def test_a_failed_network_takes_the_sandbox_back(bench: Bench) -> None:
    bench.network.write_conflist("10-test.conflist", bench.network.conflist(plugins=[{"type": "no-such-plugin"}]))
    async with bench.core(bench.containerd) as core:
        with pytest.raises(CriError):
            await core.sandboxes.run(pod_spec())
    assert nothing_left(bench)


@pytest.mark.behaviour("GEN-14")
async def test_a_cancelled_call_leaves_nothing(bench: Bench) -> None:
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.sleep(60)

    bench.containerd.hooks["start sandbox"] = hang
    async with bench.core(bench.containerd) as core:
        job = asyncio.ensure_future(core.sandboxes.run(pod_spec()))
        await reached.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert nothing_left(bench)


async def test_a_host_network_pod_gets_no_namespace(bench: Bench) -> None:
    security = SandboxSecurity(namespaces=NamespaceOptions(network=NamespaceMode.NODE))
    async with bench.core(bench.containerd) as core:
        sandbox_id = await core.sandboxes.run(pod_spec(security=security))
        assert bench.netns.names() == []
        assert core.inventory.sandboxes[sandbox_id].state is SandboxState.READY
        await core.sandboxes.remove(sandbox_id)


@pytest.mark.behaviour("GEN-12")
async def test_a_crash_between_record_and_namespace_is_taken_back(bench: Bench) -> None:
    database, sandbox_id = Database(bench.directory / "state.db"), "ab" * 32
    await database.open()
    spec = pod_spec()
    attachment = Attachment(sandbox_id, str(bench.netns.path_of(sandbox_id)), spec, "containerd")
    await Records(database).begin_run_sandbox(spec, "containerd", sandbox_id, attachment)
    await database.close()
    await bench.netns.create(sandbox_id)

    async with bench.core(bench.containerd) as core:
        assert core.inventory.sandboxes == {}
        assert bench.netns.names() == []
        await core.sandboxes.remove(await core.sandboxes.run(spec))


class Forerunner:
    """A process in a namespace of its own, which Docker's start may or may not take over."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.pid = bench.docker.run("forerunner", ["unshare", "--net"])
        wait_until(lambda: inode_of(self.pid) != inode_of("self"), "its namespace", 10)

    async def __call__(self, sandbox_id: str) -> int:
        return self.pid

    async def wait_for_network(self) -> None:
        """Hold the start back until the pod has an address."""
        await asyncio.to_thread(wait_until, lambda: bool(self.bench.network.leases()), "an address", 10)


def inode_of(pid: int | str) -> int:
    return os.stat(f"/proc/{pid}/ns/net").st_ino


@pytest.mark.behaviour("RUN-01")
async def test_the_network_is_set_up_while_the_engine_starts_the_process(bench: Bench) -> None:
    world, forerunner = bench.docker, Forerunner(bench)
    world.forerunner, world.enter = forerunner, ["nsenter", f"--net=/proc/{forerunner.pid}/ns/net"]
    world.hooks["start sandbox"] = forerunner.wait_for_network
    async with bench.core(world) as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
        record = core.inventory.sandboxes[sandbox_id]
        assert record.ips == tuple(bench.network.leases())
        assert os.stat(record.netns_path).st_ino == inode_of(record.pid) == inode_of(forerunner.pid)
        await core.sandboxes.remove(sandbox_id)
    assert nothing_left(bench)


@pytest.mark.behaviour("RUN-01")
async def test_a_process_that_ends_up_in_another_namespace_gets_its_network_there(bench: Bench) -> None:
    world, forerunner = bench.docker, Forerunner(bench)
    world.forerunner = forerunner
    world.hooks["start sandbox"] = forerunner.wait_for_network
    async with bench.core(world) as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
        record = core.inventory.sandboxes[sandbox_id]
        assert os.stat(record.netns_path).st_ino == inode_of(record.pid) != inode_of(forerunner.pid)
        assert [*record.ips] == bench.network.leases()
        await core.sandboxes.remove(sandbox_id)
    assert nothing_left(bench)


@pytest.mark.behaviour("RUN-06")
async def test_a_failed_start_takes_a_network_back_that_was_set_up_early(bench: Bench) -> None:
    world, forerunner = bench.docker, Forerunner(bench)

    async def fail() -> None:
        await forerunner.wait_for_network()
        raise Unknown("no such luck")

    world.forerunner, world.hooks["start sandbox"] = forerunner, fail
    async with bench.core(world) as core:
        with pytest.raises(Unknown, match="no such luck"):
            await core.sandboxes.run(pod_spec())
    assert nothing_left(bench)


@pytest.mark.behaviour("RUN-01")
async def test_a_forerunner_that_is_gone_does_no_harm(bench: Bench) -> None:
    async def gone(_sandbox_id: str) -> int:
        return 2**22 - 1

    bench.docker.forerunner = gone
    async with bench.core(bench.docker) as core:
        await core.sandboxes.remove(await core.sandboxes.run(pod_spec()))
    assert nothing_left(bench)


@pytest.mark.behaviour("RUN-06")
async def test_a_first_process_that_ends_before_it_has_a_network_is_no_missing_object(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(name: str, pid: int) -> Path:
        raise NotFound(f"cannot pin /proc/{pid}/ns/net: the process has ended")

    async with bench.core(bench.docker) as core:
        with monkeypatch.context() as patch:
            patch.setattr(bench.netns, "pin", gone)
            with pytest.raises(Unavailable, match="try again"):
                await core.sandboxes.run(pod_spec())
        assert nothing_left(bench)
        await core.sandboxes.remove(await core.sandboxes.run(pod_spec()))


@pytest.mark.behaviour("RUN-14")
@pytest.mark.parametrize("engine", ["docker", "containerd"])
async def test_settings_of_the_network_keep_the_order_of_the_engine(bench: Bench, engine: str) -> None:
    async def forbidden(_sandbox_id: str) -> int:
        raise AssertionError("the network is set up after the start")

    leases: list[bool] = []

    async def look() -> None:
        leases.append(bool(bench.network.leases()))

    world = {"docker": bench.docker, "containerd": bench.containerd}[engine]
    world.forerunner, world.hooks["start sandbox"] = forbidden, look
    async with bench.core(world) as core:
        spec = pod_spec(sysctls={"net.ipv6.conf.default.disable_ipv6": "1"})
        await core.sandboxes.remove(await core.sandboxes.run(spec))
    assert leases == [engine == "containerd"]
