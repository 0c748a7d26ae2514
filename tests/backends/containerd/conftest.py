"""Fixtures of the tests that speak containerd's API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from cri_dockerd_py._generated.containerd_v1.content_pb2 import Info, ListStatusesRequest
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.images import ContainerdImages
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.distribution.registry import Registry
from tests.backends.containerd.layered import Pusher
from tests.engines import ContainerdNode, RegistryServer

STALL_S = 20.0
SOON_S = 20.0


@dataclass(frozen=True, slots=True)
class Store:
    """The images of one containerd namespace, and looks at what is behind them."""

    client: ContainerdClient
    leases: Leases
    images: ContainerdImages
    content: Content
    snapshots: Snapshots

    async def blobs(self) -> set[str]:
        """Return the digests of all content."""
        return {info.digest async for info in self.content.list()}

    async def keys(self) -> set[str]:
        """Return the names of all snapshots."""
        return {info.name async for info in self.snapshots.list()}

    async def info(self, digest: str) -> Info:
        """Return a blob's labels and size."""
        info = await self.content.info(digest)
        assert info is not None
        return info

    async def ingested(self) -> int:
        """Return how many bytes there are of blobs that are not whole."""
        request = ListStatusesRequest()
        return sum(s.offset for s in (await self.client.call(self.client.content.ListStatuses, request)).statuses)

    async def until_ingested(self, size: int) -> None:
        """Wait for so many bytes."""
        async with asyncio.timeout(SOON_S):
            while True:
                if await self.ingested() >= size:
                    return
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def opened(
    node: ContainerdNode, namespace: str, owner: str = "test", stall_s: float = STALL_S
) -> AsyncIterator[Store]:
    """Open the images of one containerd namespace, as a service of its own would."""
    client = ContainerdClient(node.endpoint, namespace=namespace)
    leases = Leases(client, owner)
    images = ContainerdImages(client, Registry(), leases, stall_s=stall_s)
    yield Store(client, leases, images, Content(client), Snapshots(client, images.snapshotter))
    await client.close()


@pytest_asyncio.fixture
async def containerd(containerd_node: ContainerdNode) -> AsyncIterator[ContainerdClient]:
    """A client of the shared containerd."""
    client = ContainerdClient(containerd_node.endpoint)
    yield client
    await client.close()


@pytest.fixture
def pusher(registry: RegistryServer, request: pytest.FixtureRequest) -> Pusher:
    """Pushes to a repository of the test's own; its name serves as containerd namespace, too."""
    name = f"t{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    return Pusher(registry.address, f"test/{name}", name)
