"""Core on engines that are kept in memory, with the real network and database."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from cri_dockerd_py.core.assembly import Core, CoreSettings
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, ImageSpec
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxSpec
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.pod_network import CniSettings, PodNetwork
from cri_dockerd_py.store.database import Database
from tests.cni import PLUGIN_DIRECTORIES, CniNetwork
from tests.core.fake_engine import World

IMAGE = "docker.io/library/app:1"
IMAGE_ID = "sha256:" + "1" * 64


def app_image(image_id: str = IMAGE_ID, tags: Sequence[str] = (IMAGE,), digests: Sequence[str] = ()) -> ImageRecord:
    """An image."""
    return ImageRecord(image_id, tuple(tags), tuple(digests), 10)


class Bench:
    """Makes one core after another on the same worlds, as restarts of the service do."""

    def __init__(self, network: CniNetwork, directory: Path) -> None:
        self.network = network
        self.directory = directory
        self.docker = World("docker")
        self.containerd = World("containerd", takes_netns=True)
        self.netns = NetnsDir(f"core{secrets.token_hex(4)}")
        for world in (self.docker, self.containerd):
            world.images[IMAGE_ID] = app_image()

    @contextlib.asynccontextmanager
    async def core(self, *worlds: World) -> AsyncIterator[Core]:
        """Run a core on these engines, both if none is named."""
        settings = CniSettings(
            conf_dir=str(self.network.conf_dir),
            bin_dirs=tuple(PLUGIN_DIRECTORIES),
            cache_dir=self.network.cache_dir,
            lock_dir=self.directory / "locks",
        )
        network = PodNetwork(settings, self.netns)
        await network.start()
        database = Database(self.directory / "state.db")
        await database.open()
        engines = [world.engine() for world in worlds or (self.docker, self.containerd)]
        core = Core(engines, network, self.netns, database, CoreSettings("", 1.0, 3600.0, False, dict))
        await core.restore()
        try:
            async with asyncio.TaskGroup() as group:
                jobs = core.run_in(group)
                await core.first_contact(10.0)
                try:
                    yield core
                finally:
                    for job in jobs:
                        job.cancel()
        finally:
            await core.close()
            await database.close()

    def close(self) -> None:
        """Remove what is left."""
        self.docker.close()
        self.containerd.close()
        for name in self.netns.names():
            asyncio.run(self.netns.remove(name))


@pytest.fixture
def bench(own_network: CniNetwork, tmp_path: Path) -> Iterator[Bench]:
    """Two engines without pods."""
    bench = Bench(own_network, tmp_path)
    yield bench
    bench.close()


def pod_spec(uid: str = "", attempt: int = 0, **fields: object) -> SandboxSpec:
    """A pod of its own, or the next attempt of one."""
    uid = uid or secrets.token_hex(8)
    return SandboxSpec(PodMetadata(f"pod-{uid}", uid, "default", attempt), **fields)  # type: ignore[arg-type]


def app_spec(name: str = "app", attempt: int = 0) -> ContainerSpec:
    """A container."""
    return ContainerSpec(ContainerMetadata(name, attempt), ImageSpec(IMAGE))
