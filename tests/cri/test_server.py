"""Where the server listens, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py.cri.server import CriServer
from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument
from tests.cri.calls import CallBook
from tests.cri.conftest import Edge, sandbox_config
from tests.cri.fake_node import FakeNode

VERSION = "/runtime.v1.RuntimeService/Version"


async def answers(path: Path) -> bool:
    """Whether a CRI server answers there."""
    async with grpc.aio.insecure_channel(f"unix:{path}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(VERSION, lambda raw: raw, lambda raw: raw)(b"", timeout=5)
        return await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("endpoint", ["unix://{}", "unix:{}", "{}"])
async def test_forms_of_the_endpoint(directory: Path, endpoint: str) -> None:
    path = directory / "new" / "folder" / "cri.sock"
    server = CriServer(endpoint.format(path), FakeNode(), path.parent / "private", socket_mode=0o600)
    await server.start()
    try:
        assert await answers(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in path.parent.iterdir()] == ["cri.sock"]
    finally:
        await server.stop(0)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("endpoint", ["", "tcp://127.0.0.1:1", "relative.sock", "unix://", "npipe:////./pipe/x"])
async def test_other_endpoints_are_refused(directory: Path, endpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="endpoint"):
        await CriServer(endpoint, FakeNode(), directory / "private").start()


async def test_a_path_that_is_too_long_is_refused(directory: Path) -> None:
    with pytest.raises(InvalidArgument, match="107 bytes"):
        await CriServer(f"{directory}/{'x' * 100}", FakeNode(), directory / "private").start()


async def test_a_stale_socket_is_replaced(directory: Path) -> None:
    path = directory / "cri.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    server = CriServer(str(path), FakeNode(), path.parent / "private")
    await server.start()
    try:
        assert await answers(path)
    finally:
        await server.stop(0)


async def test_a_live_socket_is_not_taken(directory: Path) -> None:
    path = directory / "cri.sock"
    first, second = (
        CriServer(str(path), FakeNode(), path.parent / "private"),
        CriServer(str(path), FakeNode(), path.parent / "private"),
    )
    await first.start()
    try:
        with pytest.raises(FailedPrecondition, match="another process answers"):
            await second.start()
        await second.stop(0)
        assert await answers(path)
    finally:
        await first.stop(0)


async def test_a_file_is_not_removed(directory: Path) -> None:
    path = directory / "cri.sock"
    path.write_text("precious")

    with pytest.raises(FailedPrecondition, match="no socket"):
        await CriServer(str(path), FakeNode(), path.parent / "private").start()

    assert path.read_text() == "precious"


async def test_a_socket_that_another_process_put_there_stays(directory: Path) -> None:
    path = directory / "cri.sock"
    server = CriServer(str(path), FakeNode(), path.parent / "private")
    await server.start()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{path}.new")
        Path(f"{path}.new").replace(path)
        await server.stop(0)

        assert path.is_socket()


async def test_stopping_waits_for_calls_in_flight(edge: Edge) -> None:
    edge.node.gate.open.clear()
    call = edge.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=sandbox_config()))
    pod = asyncio.ensure_future(call)
    await edge.node.gate.waiting.wait()
    stopping = asyncio.ensure_future(edge.server.stop(30))
    await asyncio.sleep(0)
    assert not stopping.done()
    edge.node.gate.open.set()

    assert (await pod).pod_sandbox_id in edge.node.inventory.sandboxes
    await stopping


async def test_stopping_does_not_wait_for_ever(edge: Edge) -> None:
    edge.node.gate.open.clear()
    call = edge.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=sandbox_config()))
    code = asyncio.ensure_future(call.code())
    await edge.node.gate.waiting.wait()
    await edge.server.stop(0.05)

    assert await code is not grpc.StatusCode.OK
    assert edge.node.gate.cancelled == 1


async def test_stopping_ends_event_streams(edge: Edge, calls: CallBook) -> None:
    stream = edge.runtime.GetContainerEvents(cri.GetEventsRequest())
    while not calls.by_method["GetContainerEvents"].in_flight:
        await edge.runtime.Version(cri.VersionRequest())
    async with asyncio.timeout(5):
        await edge.server.stop(60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in str(caught.value.details())
    await edge.server.stop(60)
