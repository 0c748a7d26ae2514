"""What `systemctl status` shows of the service, as it is told over the manager's socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.core.engines import Side
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.daemon.service_manager import ServiceManager
from cri_dockerd_py.daemon.status_line import StatusLine
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.store.database import Database
from tests.cni import CniNetwork
from tests.core.fake_engine import World
from tests.cri_server import CriServer
from tests.daemon.manager import Manager
from tests.engines import RealEngine
from tests.migration.conftest import Scene, living, options
from tests.processes import wait_until

AT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager."""
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


class Line:
    """A status line over two engines, both ready, and what has arrived of it."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self.inventory = Inventory()
        self.docker, self.containerd = (Side(World(name).engine()) for name in ("docker", "containerd"))
        self.status = StatusLine(ServiceManager(manager.environment), tell_every_s=0.01)
        self.status.join((self.docker, self.containerd), self.inventory)
        self.status.wait_for_engines()
        for side in (self.docker, self.containerd):
            side.health.up()
        self.status.serve("READY=1")

    async def told(self, pattern: str) -> None:
        """Wait until the newest line is such a one."""
        await asyncio.to_thread(self._manager.wait_told, pattern)

    def put_pod(self, name: str, engine: str, state: SandboxState = SandboxState.READY) -> None:
        """Put a pod in the inventory."""
        spec = SandboxSpec(PodMetadata(name, f"uid-{name}", "default", 0))
        self.inventory.put_sandbox(SandboxRecord(name, spec, state, 1, engine))


@pytest.fixture
async def line(manager: Manager) -> AsyncIterator[Line]:
    """A status line that runs."""
    line = Line(manager)
    running = asyncio.ensure_future(line.status.run())
    yield line
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A node in memory with kubelet and migration."""
    database = Database(tmp_path / "state.db")
    await database.open()
    async with living(database) as scene:
        yield scene
    await database.close()


async def test_engines_and_pods(line: Line, manager: Manager) -> None:
    await line.told("Serving on docker and containerd, 0 pods")
    assert manager.statuses == ["Waiting for docker and containerd", "Serving on docker and containerd, 0 pods"]
    line.put_pod("a", "docker")
    await line.told("Serving on docker and containerd, 1 pod")
    line.put_pod("b", "containerd")
    await line.told("Serving on docker and containerd, 2 pods")
    line.put_pod("a", "docker", SandboxState.NOTREADY)
    line.inventory.drop_sandbox("b")
    await line.told("Serving on docker and containerd, 0 pods")


async def test_an_engine_that_is_away(line: Line) -> None:
    line.put_pod("a", "docker")
    line.put_pod("b", "containerd")
    before = time.time()
    line.docker.health.down("no\n answer from http://user:SECRET@host\x1b[1m")
    assert before <= line.docker.health.since_s <= time.time()
    told = "no answer from http://<redacted>@host?[1m"
    await line.told(f"Serving on containerd, 1 pod; docker away since {AT}: {re.escape(told)}")
    line.docker.health.down("x" * 1000)
    await line.told(f"Serving on containerd, 1 pod; docker away since {AT}: x{{159}}…")
    line.containerd.health.down("gone")
    await line.told(f"Serving; docker away since {AT}: x{{159}}…; containerd away since {AT}: gone")
    for side in (line.docker, line.containerd):
        side.health.up()
    await line.told("Serving on docker and containerd, 2 pods")


async def test_a_migration(line: Line, scene: Scene) -> None:
    line.status.join_migrations(scene.migrations)
    uids = [scene.node.add_pod(f"web-{index}") for index in range(3)]
    scene.kubelet.ignored = {uids[1]}
    serving = "Serving on docker and containerd, 0 pods"
    await scene.migrations.run(options(return_within_s=60.0))
    await line.told(f"{serving}; moving pods 1/3 to containerd")
    await scene.migrations.pause()
    await line.told(f"{serving}; moving pods to containerd is paused after 1/3")
    scene.kubelet.ignored, scene.kubelet.crashing = set(), {(uids[2], "containerd")}
    scene.node.touch()
    await scene.ended(*[run.state for run in [scene.migrations.progress.run] if run])
    await scene.migrations.resume()
    await line.told(f"{serving}; moving pods to containerd has stopped after 3/3: see cri-dockerd-py migrate status")
    scene.kubelet.ignored = {uids[0]}
    await scene.migrations.rollback()
    await line.told(f"{serving}; moving pods 0/2 back to docker")
    scene.kubelet.ignored = set()
    scene.node.touch()
    await line.told(serving)


async def test_a_step_stays_whatever_happens(line: Line, manager: Manager) -> None:
    line.status.step("Stopping", "STOPPING=1")
    line.docker.health.down("gone")
    line.put_pod("a", "containerd")
    await line.told("Stopping")
    line.status.serve()
    await line.told(f"Serving on containerd, 1 pod; docker away since {AT}: gone")
    assert manager.statuses[-2] == "Stopping"


def test_the_life_of_a_service(own_engine: RealEngine, own_network: CniNetwork, manager: Manager) -> None:
    server = CriServer(own_engine, own_network, environment=manager.environment)
    config, kind = server.directory / "config.toml", own_engine.kind
    before = config.read_text()
    try:
        server.start()
        manager.wait_told(f"Serving on {kind}, 0 pods")
        assert manager.statuses[:3] == ["Going on with containers' logs", f"Waiting for {kind}", manager.statuses[-1]]
        client = server.client()
        pod = client.run_pod()
        manager.wait_told(f"Serving on {kind}, 1 pod")

        own_engine.kill()
        manager.wait_told(f"Serving; {kind} away since {AT}: .+")
        own_engine.start()
        manager.wait_told(f"Serving on {kind}, 1 pod")

        config.write_text('no_such_setting = 1\nhairpin_mode = "none"\n')
        server.daemon.signal(signal.SIGHUP)
        error = rf"no_such_setting \({config}\): there is no such setting; [^;]+"
        manager.wait_told(
            f"Serving on {kind}, 1 pod; the settings file has an error: {error}; the earlier settings stay"
        )
        config.write_text(before)
        server.daemon.signal(signal.SIGHUP)
        manager.wait_told(f"Serving on {kind}, 1 pod")
        assert "Reading settings" in manager.statuses

        client.remove_pod(pod)
        client.close()
        server.stop()
        wait_until(lambda: manager.statuses[-1] == "Stopping", "the end")
    finally:
        server.close()
