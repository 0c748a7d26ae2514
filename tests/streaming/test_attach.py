"""Attach: several clients on one running process, which none of them ends."""

from __future__ import annotations

import pytest

from tests.streaming.client import V4, V5, SpdyClient, WebSocketClient, websocket_command
from tests.streaming.conftest import Streaming, settled

pytestmark = pytest.mark.timeout(60)

_ECHO = 'while read x; do echo "got $x"; done; echo bye'


async def test_two_clients_see_all_output_and_one_may_leave(streaming: Streaming) -> None:
    container = await streaming.run_container(_ECHO)
    first, second = [await SpdyClient.open(streaming.attach(stdin=True), V4) for _ in range(2)]
    streams = await first.create_all("error", "stdin", "stdout", "stderr")
    others = await second.create_all("error", "stdin", "stdout", "stderr")
    await settled(lambda: len(container.attached) == 2)
    await streams["stdin"].write(b"one\n")
    await streams["stdout"].read_until(b"got one\n")
    await others["stdout"].read_until(b"got one\n")
    await first.say_goodbye()
    await settled(lambda: len(container.attached) == 1)
    await others["stdin"].write(b"two\n")
    await others["stdout"].read_until(b"got two\n")
    assert container.process.process.returncode is None
    assert not any(attachment.killed for attachment in streaming.host.attachments)
    await second.close()


async def test_a_clients_end_of_stdin_reaches_a_container_with_stdin_once(streaming: Streaming) -> None:
    await streaming.run_container(_ECHO, stdin_once=True)
    client = await SpdyClient.open(streaming.attach(stdin=True), V4)
    result = await client.command("error", "stdin", "stdout", "stderr", stdin=b"hello\n")
    assert result.stdout == b"got hello\nbye\n"
    assert result.status == b'{"status":"Success"}'


async def test_a_clients_end_of_stdin_leaves_other_containers_alone(streaming: Streaming) -> None:
    container = await streaming.run_container(_ECHO)
    client = await SpdyClient.open(streaming.attach(stdin=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "stderr")
    await streams["stdin"].write(b"hello\n")
    await streams["stdin"].end()
    await streams["stdout"].read_until(b"got hello\n")
    await container.process.write_stdin(b"still here\n")
    await streams["stdout"].read_until(b"got still here\n")
    await client.close()


async def test_the_containers_end_is_success_whatever_its_code(streaming: Streaming) -> None:
    container = await streaming.run_container("read x; echo last; exit 3")
    spdy = await SpdyClient.open(streaming.attach(), V4)
    streams = await spdy.create_all("error", "stdout", "stderr")
    websocket = await WebSocketClient.open(streaming.attach(), V5)
    await settled(lambda: len(container.attached) == 2)
    await container.process.write_stdin(b"end\n")
    assert await streams["stdout"].read_all() == b"last\n"
    assert await streams["error"].read_all() == b'{"status":"Success"}'
    result = await websocket_command(websocket)
    assert (result.stdout, result.status) == (b"last\n", b'{"status":"Success"}')
    await spdy.close()


async def test_a_terminal_is_resized_twice_to_be_redrawn(streaming: Streaming) -> None:
    container = await streaming.run_container("cat", tty=True)
    client = await SpdyClient.open(streaming.attach(stdin=True, tty=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "resize")
    await streams["resize"].write(b'{"Width":81,"Height":25}\n{"Width":80,"Height":24}\n')
    await settled(lambda: container.process.sizes == [(81, 25), (80, 24)])
    await streams["stdin"].write(b"hello\n")
    await streams["stdout"].read_until(b"hello\r\nhello\r\n")
    await client.close()


async def test_no_container_is_told(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.attach(), V4)
    result = await client.command("error", "stdout", "stderr")
    assert b"error attaching to container: container c1 does not exist" in result.status
