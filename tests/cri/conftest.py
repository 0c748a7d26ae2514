"""The edge on a real socket, over the fake node."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py._generated.runtime_v1 import api_pb2_grpc as cri_grpc
from cri_dockerd_py.cri.server import PACKAGES, CriServer
from tests.cri.calls import CallBook
from tests.cri.fake_node import IMAGE_ID, FakeNode

_LIMITS = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", -1)]


class Edge:
    """A served fake node, with stubs of both services under one package name."""

    def __init__(self, node: FakeNode, server: CriServer, channel: grpc.aio.Channel, package: str) -> None:
        self.node = node
        self.server = server
        self.raw: Any = channel  # for calls with bytes
        renamed: Any = _Renamed(channel, package)
        self.runtime = cri_grpc.RuntimeServiceStub(renamed)
        self.images = cri_grpc.ImageServiceStub(renamed)

    async def run_pod(self, name: str = "web", **fields: Any) -> str:
        """Run a pod."""
        config = sandbox_config(name, **fields)
        return str((await self.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=config))).pod_sandbox_id)

    async def create(self, pod_id: str, name: str = "app", **fields: Any) -> str:
        """Create a container."""
        request = cri.CreateContainerRequest(pod_sandbox_id=pod_id, config=container_config(name, **fields))
        return str((await self.runtime.CreateContainer(request)).container_id)

    async def start(self, pod_id: str, name: str = "app", **fields: Any) -> str:
        """Create and start a container."""
        container_id = await self.create(pod_id, name, **fields)
        await self.runtime.StartContainer(cri.StartContainerRequest(container_id=container_id))
        return container_id


class _Renamed:
    """A channel that calls the same methods in another package."""

    def __init__(self, channel: grpc.aio.Channel, package: str) -> None:
        self._channel = channel
        self._package = package

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._channel.unary_unary(method.replace("runtime.v1", self._package), *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._channel.unary_stream(method.replace("runtime.v1", self._package), *arguments, **options)


def sandbox_config(name: str = "web", **fields: Any) -> cri.PodSandboxConfig:
    """Return a pod's config."""
    metadata = cri.PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="default", attempt=1)
    return cri.PodSandboxConfig(**{"metadata": metadata, "log_directory": "/var/log/pods/web", **fields})


def container_config(name: str = "app", **fields: Any) -> cri.ContainerConfig:
    """Return a container's config."""
    defaults = {
        "metadata": cri.ContainerMetadata(name=name, attempt=2),
        "image": cri.ImageSpec(image=IMAGE_ID, user_specified_image="busybox"),
        "log_path": "app/2.log",
    }
    return cri.ContainerConfig(**{**defaults, **fields})


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="cri-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def calls() -> CallBook:
    """What the edge told its observer."""
    return CallBook()


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    """The package name that clients use."""
    return str(request.param)


@pytest.fixture
async def edge(directory: Path, calls: CallBook, request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    """A served fake node, and a client of it; both package names where the test asks for `package`."""
    package = str(request.getfixturevalue("package")) if "package" in request.fixturenames else PACKAGES[0]
    node = FakeNode()
    server = CriServer(f"unix://{directory}/cri.sock", node, directory / "private", calls.series)
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{directory}/cri.sock", options=_LIMITS) as channel:
        yield Edge(node, server, channel, package)
    await server.stop(0)
