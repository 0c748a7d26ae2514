"""Port-forward over SPDY, over SPDY inside WebSocket, and over WebSocket channels."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cri_dockerd_py.streaming.protocol import spdy_frames as frames
from cri_dockerd_py.streaming.protocol import websocket as ws
from tests.streaming.client import V4, Refused, SpdyClient, TunnelWire, WebSocketClient
from tests.streaming.conftest import Streaming, settled
from tests.streaming.targets import answer_at_end, echo, network_namespace, target

pytestmark = pytest.mark.timeout(90)

Open = Callable[[], Awaitable[SpdyClient]]


@pytest.fixture(params=["spdy", "spdy in crumbs", "tunnel", "tunnel in crumbs"])
def opened(request: pytest.FixtureRequest, streaming: Streaming) -> Open:
    """A function that opens a session, over each transport."""
    crumb = 3 if "crumbs" in request.param else 0

    async def open_session() -> SpdyClient:
        if request.param.startswith("tunnel"):
            return await SpdyClient.open_tunnel(streaming.ports(), crumb)
        return await SpdyClient.open(streaming.ports(), "portforward.k8s.io", crumb=crumb)

    return open_session


@pytest.fixture
def spdy(streaming: Streaming) -> Open:
    """A function that opens a session over plain SPDY."""
    return lambda: SpdyClient.open(streaming.ports(), "portforward.k8s.io")


async def test_a_request_and_its_answer(opened: Open) -> None:
    async with target() as port, await opened() as client:
        error, data = await client.pair(port, 0)
        await data.write(b"request\n")
        await data.read_until(b"request\n")
        await data.end()
        assert await data.read_all() == b"request\n"
        assert await error.read_all() == b""
        assert data.fin
        assert error.fin


async def test_the_session_outlives_its_connections(opened: Open) -> None:
    async with target() as port, await opened() as client:
        for number in range(5):
            _, data = await client.pair(port, number)
            await data.write(b"x")
            await data.end()
            assert await data.read_all() == b"x"
        assert client.go_away is None


async def test_an_answer_after_the_clients_end(opened: Open) -> None:
    async with target(answer_at_end) as port, await opened() as client:
        error, data = await client.pair(port, 0)
        await data.write(b"question")
        await data.end()
        assert await data.read_all() == b"answer to question"
        assert await error.read_all() == b""


async def test_the_target_ends_first_and_still_listens(spdy: Open) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def speak_then_listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"that is all")
        writer.write_eof()
        heard.set_result(await reader.read())

    async with target(speak_then_listen) as port, await spdy() as client:
        error, data = await client.pair(port, 0)
        assert await data.read_all() == b"that is all"
        assert await error.read_all() == b""
        await data.write(b"one more thing")
        await data.end()
        assert await heard == b"one more thing"


async def test_a_refused_port_is_told_and_both_streams_reset(opened: Open) -> None:
    async with target() as port, await opened() as client:
        error, data = await client.pair(9, 0)
        text = await error.read_all()
        assert text.startswith(b"error forwarding port 9 to pod sb1, uid : failed to connect to localhost:9")
        assert b"Connection refused" in text
        await data.ended.wait()
        assert (data.reset_status, error.reset_status) == (frames.RST_CANCEL, frames.RST_CANCEL)
        _, other = await client.pair(port, 1)
        await other.write(b"goes on")
        await other.read_until(b"goes on")


async def test_a_target_that_resets_ends_its_connection_alone(spdy: Open) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with target(reset) as bad, target() as good, await spdy() as client:
        error, data = await client.pair(bad, 0)
        await data.write(b"x")
        assert await data.read_all() == b""
        assert await error.read_all() == b""
        _, other = await client.pair(good, 1)
        await other.write(b"goes on")
        await other.read_until(b"goes on")


@pytest.mark.parametrize("leave", ["reset", "goodbye", "close"])
async def test_targets_learn_that_the_client_has_gone(opened: Open, streaming: Streaming, leave: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        try:
            while await reader.read(100):
                pass
        finally:
            ended.set()

    async with target(wait_for_end) as port:
        client = await opened()
        _, data = await client.pair(port, 0)
        await data.write(b"x")
        await begun.wait()
        if leave == "reset":
            await data.reset()
        elif leave == "goodbye":
            await client.say_goodbye()
        else:
            await client.close()
        async with asyncio.timeout(5):
            await ended.wait()
        if leave == "reset":
            await client.close()
        await settled(lambda: streaming.server.session_count == 0)


async def test_data_before_its_error_stream_is_kept(spdy: Open) -> None:
    async with target() as port, await spdy() as client:
        data = await client.create(streamtype="data", port=str(port), requestid="7")
        await data.write(b"early")
        await client.create(streamtype="error", port=str(port), requestid="7")
        await data.read_until(b"early")


async def test_clients_without_request_ids(spdy: Open) -> None:
    async with target() as port, await spdy() as client:
        await client.create(streamtype="error", port=str(port))
        data = await client.create(streamtype="data", port=str(port))
        await data.write(b"old")
        await data.read_until(b"old")


@pytest.mark.parametrize(
    "headers",
    [
        {"streamtype": "data", "requestid": "0"},
        {"streamtype": "data", "port": "0", "requestid": "0"},
        {"streamtype": "data", "port": "65536", "requestid": "0"},
        {"streamtype": "data", "port": "http", "requestid": "0"},
        {"streamtype": "stdin", "port": "80", "requestid": "0"},
        {"port": "80", "requestid": "0"},
    ],
)
async def test_senseless_streams_are_refused_and_the_session_goes_on(spdy: Open, headers: dict[str, str]) -> None:
    async with target() as port, await spdy() as client:
        refused = await client.create(**headers)
        assert refused.reset_status == frames.RST_REFUSED_STREAM
        _, data = await client.pair(port, 0)
        await data.write(b"goes on")
        await data.read_until(b"goes on")


async def test_an_intruder_does_not_disturb_a_pair(spdy: Open) -> None:
    async with target() as port, await spdy() as client:
        await client.create(streamtype="error", port=str(port), requestid="0")
        intruder = await client.create(streamtype="error", port=str(port), requestid="0")
        assert intruder.reset_status == frames.RST_REFUSED_STREAM
        data = await client.create(streamtype="data", port=str(port), requestid="0")
        await data.write(b"goes on")
        await data.read_until(b"goes on")


async def test_a_pair_that_stays_incomplete(start_streaming: Callable[..., Awaitable[Streaming]]) -> None:
    streaming = await start_streaming(creation_timeout_s=0.3)
    async with await SpdyClient.open(streaming.ports(), "portforward.k8s.io") as client:
        error = await client.create(streamtype="error", port="80", requestid="0")
        data = await client.create(streamtype="data", port="80", requestid="1")
        assert b"request=0) timed out waiting for streams" in await error.read_all()
        await data.ended.wait()
        assert data.reset_status == frames.RST_CANCEL


async def test_a_half_closed_connection_is_not_kept_for_ever(
    start_streaming: Callable[..., Awaitable[Streaming]],
) -> None:
    streaming = await start_streaming(half_closed_s=0.3)

    release = asyncio.Event()

    async def never_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await release.wait()

    async with target(never_end) as port, await SpdyClient.open(streaming.ports(), "portforward.k8s.io") as client:
        _, data = await client.pair(port, 0)
        await data.end()
        async with asyncio.timeout(3):
            await data.ended.wait()
        release.set()


async def test_silence_before_the_clients_end_does_not_shorten_the_wait_for_the_answer(
    start_streaming: Callable[..., Awaitable[Streaming]],
) -> None:
    streaming = await start_streaming(half_closed_s=2.0)
    async with (
        target(answer_at_end) as port,
        await SpdyClient.open(streaming.ports(), "portforward.k8s.io") as client,
    ):
        _, data = await client.pair(port, 0)
        await data.write(b"question")
        await asyncio.sleep(2.2)  # the silence is what is tested
        await data.end()
        assert await data.read_all() == b"answer to question"
        assert data.reset_status is None


async def transfer(client: SpdyClient, port: int, number: int, size: int) -> None:
    """Send random bytes through an echo, and compare."""
    sent = os.urandom(size)
    _, data = await client.pair(port, number)

    async def write() -> None:
        await data.write(sent)
        await data.end()

    writing = asyncio.ensure_future(write())
    got = await data.read_all()
    await writing
    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


@pytest.mark.parametrize("transport", ["spdy", "tunnel"])
async def test_many_connections_at_once_into_a_namespace(streaming: Streaming, transport: str) -> None:
    with network_namespace() as path:
        streaming.host.netns_path = path
        async with target(echo, netns_path=path) as port:
            url = streaming.ports()
            opening = SpdyClient.open(url, "portforward.k8s.io") if transport == "spdy" else SpdyClient.open_tunnel(url)
            async with await opening as client, asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(transfer(client, port, number, 500_000))


async def test_a_target_that_never_reads_does_not_stop_the_others(spdy: Open) -> None:
    release = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await release.wait()

    async with target(deaf) as port, target() as good, await spdy() as client:
        _, stuck = await client.pair(port, 0)
        await stuck.write(bytes(1_500_000))
        _, other = await client.pair(good, 1)
        await other.write(b"still served")
        async with asyncio.timeout(5):
            await other.read_until(b"still served")
        release.set()


async def test_finished_connections_are_forgotten(spdy: Open, streaming: Streaming) -> None:
    """More connections than may live at once, one after the other."""
    async with target() as port, await spdy() as client:
        for number in range(1100):
            _, data = await client.pair(port, number)
            await data.reset()


async def test_a_tunnel_says_goodbye_in_both_layers(streaming: Streaming) -> None:
    client = await SpdyClient.open_tunnel(streaming.ports())
    stopping = asyncio.ensure_future(streaming.server.stop())
    await client.closed.wait()
    assert client.go_away is not None
    assert isinstance(client.wire, TunnelWire)
    assert client.wire.close_code == 1000
    await client.close()
    await stopping


async def test_text_in_a_tunnel_is_refused(streaming: Streaming) -> None:
    client = await WebSocketClient.open(streaming.ports(), "SPDY/3.1+portforward.k8s.io")
    await client.send(ws.TEXT, b"hello")
    assert await client.receive() == ws.CloseReceived(1003)
    await client.close()


@asynccontextmanager
async def channels(streaming: Streaming, *ports: int, protocol: str = V4) -> AsyncIterator[WebSocketClient]:
    async with await WebSocketClient.open(streaming.ports(*ports), protocol) as client:
        assert client.protocol == protocol
        yield client


async def messages(client: WebSocketClient) -> list[bytes]:
    """Return all further messages; the connection has to end normally."""
    got = []
    while isinstance(event := await client.receive(), ws.MessagePiece):
        got.append(event.data)
    assert event == ws.CloseReceived(1000)
    return got


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, and end."""
    writer.write(b"echo:" + await reader.read(100))


async def test_channels_of_two_ports_one_of_which_refuses(streaming: Streaming) -> None:
    async with target(answer_once) as port, channels(streaming, port, 9) as client:
        await client.send(ws.BINARY, b"\0request")
        got = await messages(client)
        prefix, refused = port.to_bytes(2, "little"), (9).to_bytes(2, "little")
        assert got[:4] == [b"\0" + prefix, b"\1" + prefix, b"\2" + refused, b"\3" + refused]
        assert b"\0echo:request" in got[4:]
        [text] = [message for message in got[4:] if message[0] == 3]
        assert text.startswith(b"\3error forwarding port 9 to pod sb1")


async def test_base64_channels(streaming: Streaming) -> None:
    async with target(answer_once) as port, channels(streaming, port, protocol="v4.base64.channel.k8s.io") as client:
        await client.send(ws.TEXT, b"0cmVxdWVzdAo=")
        assert (await messages(client))[2:] == [b"0ZWNobzpyZXF1ZXN0Cg=="]


async def test_channels_need_ports(streaming: Streaming) -> None:
    with pytest.raises(Refused) as refused:
        await WebSocketClient.open(streaming.ports(), V4)
    assert refused.value.head.status == 400
    with pytest.raises(Refused) as refused:
        await WebSocketClient.open(streaming.ports(*range(1, 129)), V4)
    assert refused.value.head.status == 400


async def test_channel_targets_learn_that_the_client_has_gone(streaming: Streaming) -> None:
    ended = asyncio.Event()

    async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            ended.set()

    async with target(wait_for_end) as port:
        async with channels(streaming, port):
            await settled(lambda: streaming.server.session_count == 1)
        async with asyncio.timeout(5):
            await ended.wait()
