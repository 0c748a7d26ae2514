"""Exec over WebSocket channels with real processes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal

import pytest

from cri_dockerd_py.streaming.protocol import websocket as ws
from tests.streaming.client import V1, V4, V5, Refused, WebSocketClient, websocket_command
from tests.streaming.conftest import Streaming, settled

pytestmark = pytest.mark.timeout(60)

V4_BASE64 = "v4.base64.channel.k8s.io"


async def first_message(client: WebSocketClient) -> bytes:
    event = await client.receive()
    assert isinstance(event, ws.MessagePiece)
    return event.data


@pytest.mark.parametrize("protocols", [(V5,), (V4,), ("x", V4, V5)])
async def test_both_outputs_status_and_a_normal_close(streaming: Streaming, protocols: tuple[str, ...]) -> None:
    client = await WebSocketClient.open(streaming.shell("echo out; echo err >&2; exit 3"), *protocols)
    assert client.protocol == next(name for name in protocols if name != "x")
    result = await websocket_command(client)
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    assert result.close_code == 1000


async def test_stdin_is_half_closed_by_the_close_signal(streaming: Streaming) -> None:
    client = await WebSocketClient.open(streaming.exec("sha256sum", stdin=True), V5)
    data = os.urandom(3_000_000)
    result = await websocket_command(client, data)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert result.exit_code == 0


@pytest.mark.parametrize(("protocols", "chosen"), [((V1,), V1), ((), "")])
async def test_old_protocols_tell_failures_as_text(
    streaming: Streaming, protocols: tuple[str, ...], chosen: str
) -> None:
    client = await WebSocketClient.open(streaming.shell("echo out; exit 3"), *protocols)
    assert client.protocol == chosen
    result = await websocket_command(client)
    assert result.stdout == b"out\n"
    assert result.status.endswith(b"exit code 3")
    assert result.close_code == 1000


async def test_base64_channels(streaming: Streaming) -> None:
    client = await WebSocketClient.open(streaming.shell("read x; echo $x", stdin=True), V4_BASE64)
    assert await first_message(client) == b"1"
    await client.send(ws.TEXT, b"0" + base64.b64encode(b"hello\n"))
    assert await first_message(client) == b"1" + base64.b64encode(b"hello\n")
    assert json.loads(base64.b64decode((await first_message(client))[1:])) == {"status": "Success"}
    assert await client.receive() == ws.CloseReceived(1000)
    await client.close()


async def test_offers_may_come_on_several_lines(streaming: Streaming) -> None:
    async with await WebSocketClient.open(streaming.shell("exit 0"), "x", V4, lines=True) as client:
        assert client.protocol == V4


async def test_an_unknown_protocol_is_refused_with_what_is_known(streaming: Streaming) -> None:
    with pytest.raises(Refused) as refused:
        await WebSocketClient.open(streaming.shell("exit 0"), "v9.channel.k8s.io")
    assert refused.value.head.status == 403
    assert b"v5.channel.k8s.io" in refused.value.head.body


async def test_a_terminal_with_sizes(streaming: Streaming) -> None:
    client = await WebSocketClient.open(streaming.shell("read x; stty size", stdin=True, tty=True), V4)
    assert await first_message(client) == b"\1"
    await client.send(ws.BINARY, b'\4{"Width":80,"Height":24}')
    await settled(lambda: bool(streaming.host.processes) and streaming.host.processes[0].sizes == [(80, 24)])
    await client.send(ws.BINARY, b"\0go\n")
    assert b"24 80" in (await websocket_command(client)).stdout


async def test_stdin_alone_has_its_first_message_on_the_error_channel(streaming: Streaming) -> None:
    client = await WebSocketClient.open(streaming.exec("cat", stdin=True, stdout=False, stderr=False), V5)
    assert await first_message(client) == b"\3"
    assert (await websocket_command(client, b"lost")).exit_code == 0


async def test_oddities_are_tolerated(streaming: Streaming) -> None:
    client = await WebSocketClient.open(streaming.exec("cat", stdin=True), V5)
    assert await first_message(client) == b"\1"
    await client.send(ws.TEXT, b"\0text ")
    await client.send(ws.BINARY, b"")
    await client.send(ws.BINARY, b"\x09dropped")
    await client.send(ws.BINARY, b"\1dropped")
    await client.send(ws.BINARY, b"\xff\1")
    await client.send(ws.BINARY, b"\0frag", fin=False)
    await client.send(ws.PING, b"?")
    await client.send(ws.CONTINUATION, b"ment")
    pong = None
    received = b""
    while not received.endswith(b"fragment"):
        event = await client.receive()
        if isinstance(event, ws.PongReceived):
            pong = event.payload
        else:
            assert isinstance(event, ws.MessagePiece)
            received += event.data[1:]
    assert (received, pong) == (b"text fragment", b"?")
    await client.send(ws.BINARY, b"\xff\0")
    assert (await websocket_command(client)).exit_code == 0


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (ws.encode_frame(ws.BINARY, b"\0no mask"), 1002),
        (ws.encode_frame(ws.BINARY, b"\xff\x09", mask=b"abcd"), 1002),
        (ws.encode_frame(ws.BINARY, b"\xff", mask=b"abcd"), 1002),
        (b"\x82\xff" + (1 << 33).to_bytes(8, "big") + b"abcd", 1009),
    ],
)
async def test_what_is_forbidden_closes_and_kills(streaming: Streaming, raw: bytes, code: int) -> None:
    client = await WebSocketClient.open(streaming.shell("sleep 1000", stdin=True), V5)
    assert await first_message(client) == b"\1"
    await settled(lambda: bool(streaming.host.processes))
    await client.wire.write(raw)
    assert await client.receive() == ws.CloseReceived(code)
    await client.close()
    await settled(lambda: streaming.host.processes[0].process.returncode == -9)


async def test_a_flood_of_sizes_closes_and_kills(streaming: Streaming) -> None:
    client = await WebSocketClient.open(streaming.shell("sleep 1000", stdin=True, tty=True), V5)
    await settled(lambda: bool(streaming.host.processes))
    await client.send(ws.BINARY, b"\4" + b'{"Width":80,"Height":24}' * 12_000)
    while (event := await client.receive()) != ws.CloseReceived(1002):
        assert isinstance(event, ws.MessagePiece)
    await client.close()
    await settled(lambda: streaming.host.processes[0].process.returncode == -9)


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_a_command_dies_with_its_client(streaming: Streaming, leave: str) -> None:
    client = await WebSocketClient.open(streaming.shell("sleep 1000"), V5)
    await settled(lambda: bool(streaming.host.processes))
    if leave == "close":
        await client.close(1001)
    else:
        client.wire.abort()
    await settled(lambda: streaming.host.processes[0].process.returncode == -9)
    await client.wire.close()


async def test_a_held_client_gets_pongs_that_it_did_not_ask_for(streaming: Streaming) -> None:
    """Its own pings lie behind input that nobody reads."""
    client = await WebSocketClient.open(streaming.shell("read -r x; cat >/dev/null", stdin=True), V5)
    assert await first_message(client) == b"\1"
    await settled(lambda: bool(streaming.host.processes))
    streaming.host.processes[0].process.send_signal(signal.SIGSTOP)
    await client.send(ws.BINARY, b"\0" + bytes(1_500_000) + b"\n")
    async with asyncio.timeout(8):
        assert await client.receive() == ws.PongReceived(b"")
    streaming.host.processes[0].process.send_signal(signal.SIGCONT)
    await client.send(ws.BINARY, b"\xff\0")
    assert (await websocket_command(client)).exit_code == 0
