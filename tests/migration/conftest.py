"""Migration over a node in memory and a real journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.migration.journal import Journal
from cri_dockerd_py.migration.moves import Run, RunOptions, RunState
from cri_dockerd_py.migration.plan import PlanOptions
from cri_dockerd_py.migration.progress import Progress
from cri_dockerd_py.migration.service import Migrations
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.store.database import Database
from tests.cni import CniNetwork
from tests.engines import ContainerdNode, DockerEngine
from tests.migration.both import MigratingNode
from tests.migration.fake_node import CONTAINERD, DOCKER, FakeKubelet, FakeNode, FakeTransfer
from tests.processes import erase


class Scene:
    """A node with migration on it; `restart` plays a service that was killed and comes back."""

    def __init__(self, database: Database) -> None:
        self.node = FakeNode()
        self.kubelet = FakeKubelet(self.node)
        self.forth = FakeTransfer(self.node, CONTAINERD)
        self.back = FakeTransfer(self.node, DOCKER)
        self.journal = Journal(database)
        self.silent_s = 0.0
        self.migrations = self._migrations()
        image = ImageRecord("image", ("docker.io/library/app:1",), (), 1000)
        self.node.stores[DOCKER]["image"] = image

    def _migrations(self) -> Migrations:
        transfers = {(DOCKER, CONTAINERD): self.forth, (CONTAINERD, DOCKER): self.back}
        return Migrations(self.node, transfers, self.journal, lambda: self.silent_s)

    async def restart(self) -> None:
        """Kill the service and start it again."""
        await self.migrations.close()
        self.migrations = self._migrations()
        await self.migrations.restore()

    async def ended(self, *states: RunState) -> Progress:
        """Wait until the migration is in one of the states (any end), and return its progress."""
        async with asyncio.timeout(20):
            async for progress in self.migrations.watch():
                run = progress.run
                in_flight = any(move.state.in_flight for move in progress.moves)
                if run is not None and not in_flight and (run.state in states if states else run.state.ended):
                    return progress
        raise AssertionError("the watch ended")

    async def idle(self) -> Progress:
        """Wait until nothing is done for the migration any more, whatever its state is, and return its progress."""
        jobs = [task for task in asyncio.all_tasks() if task.get_name() == "migration"]
        if jobs:
            _, running = await asyncio.wait(jobs, timeout=20)
            assert not running
        return self.migrations.progress

    def engines(self) -> dict[str, set[str]]:
        """Return {pod uid: engines on which it runs}."""
        uids = {record.spec.metadata.uid for record in self.node.sandboxes.values()}
        return {uid: self.node.engines_of_running(uid) for uid in sorted(uids)}


def options(
    target: str = CONTAINERD, *, settle_s: float = 0.02, return_within_s: float = 1.0, **plan: object
) -> RunOptions:
    """Return options with short times."""
    return RunOptions(replace(PlanOptions(target), **plan), settle_s, return_within_s)  # type: ignore[arg-type]


def a_run(**fields: object) -> Run:
    """Return a run for the journal."""
    run = Run(0, DOCKER, CONTAINERD, options(), RunState.MOVING, DOCKER, 1, 1)
    return replace(run, **fields)  # type: ignore[arg-type]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database of its own."""
    database = Database(tmp_path / "state.db")
    await database.open()
    yield database
    await database.close()


@contextlib.asynccontextmanager
async def living(database: Database) -> AsyncIterator[Scene]:
    """A node with kubelet and migration, for as long as the context lasts."""
    scene = Scene(database)
    kubelet = asyncio.ensure_future(scene.kubelet.run())
    yield scene
    await scene.migrations.close()
    kubelet.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await kubelet


@pytest.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    """A node with kubelet and migration."""
    async with living(database) as scene:
        yield scene


@contextlib.contextmanager
def containerd_beside(docker: DockerEngine) -> Iterator[ContainerdNode]:
    """A containerd without any image; Docker's own one, where Docker keeps its images there."""
    node = ContainerdNode("containerd-1.6" if docker.name == "docker-20.10" else "containerd-2.1")
    if docker.options.containerd_image_store:
        erase(node.directory)
        node.directory, node.containerd = docker.directory, docker.containerd
        node.socket, node.daemon = node.containerd.socket, node.containerd.daemon
        yield node
        return
    node.start()
    yield node
    node.close()


@pytest.fixture
def _own_store(docker_engine: DockerEngine) -> None:
    """Docker's images are not containerd's: they are copied, and containerd can be away alone."""
    if docker_engine.options.containerd_image_store:
        pytest.skip("Docker keeps its images in this very containerd")


@pytest.fixture(scope="module")
def empty_containerd(docker_engine: DockerEngine) -> Iterator[ContainerdNode]:
    """A containerd for the tests of a module."""
    with containerd_beside(docker_engine) as node:
        yield node


@pytest.fixture
def own_node(own_docker_engine: DockerEngine, own_network: CniNetwork) -> Iterator[MigratingNode]:
    """The service on both engines, which are the test's own and may lose power."""
    with containerd_beside(own_docker_engine) as containerd:
        node = MigratingNode(own_docker_engine, containerd, own_network)
        node.start()
        yield node
        node.close()


@pytest.fixture
def node(
    docker_engine: DockerEngine, empty_containerd: ContainerdNode, own_network: CniNetwork
) -> Iterator[MigratingNode]:
    """The service on both, with kubelet's pods on Docker at first."""
    node = MigratingNode(docker_engine, empty_containerd, own_network)
    node.start()
    yield node
    node.close()
    empty_containerd.remove_all_containers()
    docker_engine.remove_all_containers()
    for name in empty_containerd.ctr("images", "ls", "--quiet").split():
        empty_containerd.ctr("images", "rm", "--sync", name)
