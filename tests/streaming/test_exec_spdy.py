"""Exec over SPDY with real processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from cri_dockerd_py.streaming.protocol import spdy_frames as frames
from tests.streaming.client import V1, V2, V3, V4, V5, SpdyClient
from tests.streaming.conftest import Streaming, settled

pytestmark = pytest.mark.timeout(60)


async def test_both_outputs_and_success(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("echo out; echo err >&2"), V5, V4, V3, V2, V1)
    assert client.protocol == V4
    result = await client.command("error", "stdout", "stderr")
    assert (result.stdout, result.stderr, result.status) == (b"out\n", b"err\n", b'{"status":"Success"}')
    assert client.go_away is not None
    assert client.go_away.status == 0


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137)])
async def test_the_exit_code_arrives(streaming: Streaming, script: str, code: int) -> None:
    client = await SpdyClient.open(streaming.shell(script), V4)
    assert (await client.command("error", "stdout", "stderr")).exit_code == code


@pytest.mark.parametrize("protocol", [V3, V2, V1])
async def test_old_protocols_tell_failures_as_text(streaming: Streaming, protocol: str) -> None:
    client = await SpdyClient.open(streaming.shell("echo out; exit 3"), protocol)
    result = await client.command("error", "stdout", "stderr")
    assert result.stdout == b"out\n"
    assert b"exit code 3" in result.status
    client = await SpdyClient.open(streaming.shell("exit 0"), protocol)
    assert (await client.command("error", "stdout", "stderr")).status == b""


async def test_a_missing_command_is_told(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.exec("/no/such/program"), V4)
    status = json.loads((await client.command("error", "stdout", "stderr")).status)
    assert status["reason"] == "InternalError"
    assert "/no/such/program: No such file or directory" in status["message"]
    assert "error executing command in container" in status["message"]


@pytest.mark.parametrize("crumb", [0, 1])
async def test_stdin_flows_through_and_ends(streaming: Streaming, crumb: int) -> None:
    client = await SpdyClient.open(streaming.exec("cat", stdin=True), V4, crumb=crumb)
    result = await client.command("error", "stdin", "stdout", "stderr", stdin=b"ping\n" * 100)
    assert result.stdout == b"ping\n" * 100
    assert result.exit_code == 0


@pytest.mark.parametrize("order", [("stdout", "stdin", "stderr", "error"), ("stdin", "error", "stderr", "stdout")])
async def test_streams_may_come_in_any_order(streaming: Streaming, order: tuple[str, ...]) -> None:
    client = await SpdyClient.open(streaming.exec("cat", stdin=True), V4)
    assert (await client.command(*order, stdin=b"x")).stdout == b"x"


async def test_everything_in_one_write_right_behind_the_101(streaming: Streaming) -> None:
    """An eager client pipelines its streams, its input and its end."""
    client = await SpdyClient.open(streaming.exec("cat", stdin=True), V4)
    opened = {kind: client.new_stream(streamtype=kind) for kind in ("error", "stdin", "stdout", "stderr")}
    stdin_id = opened["stdin"][0].stream_id
    data = b"".join(frame for _, frame in opened.values())
    await client.write(data + frames.encode_data(stdin_id, b"all at once", fin=True))
    assert await opened["stdout"][0].read_all() == b"all at once"
    assert await opened["error"][0].read_all() == b'{"status":"Success"}'
    await client.close()


async def test_stdin_that_is_at_its_end_from_the_start(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.exec("cat", stdin=True), V4)
    await client.create(frames.FLAG_FIN, streamtype="stdin")
    result = await client.command("error", "stdout", "stderr")
    assert (result.stdout, result.exit_code) == (b"", 0)


async def test_stdin_data_before_a_reset_arrives(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.exec("cat", stdin=True), V4)
    stdin = await client.create(streamtype="stdin")
    await stdin.write(b"kept")
    await stdin.reset()
    assert (await client.command("error", "stdout", "stderr")).stdout == b"kept"


async def test_a_terminal_with_sizes_from_before_the_start(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("read x; stty size; read y; stty size", stdin=True, tty=True), V4)
    streams = await client.create_all("error", "stdin", "resize")
    await streams["resize"].write(b'{"Width":81,"Height":25}\n{"Width":80,"Heig')
    await streams["resize"].write(b'ht":24}\n{"Width":0,"Height":0}{"Width":70000,"Height":1}')
    stdout = await client.create(streamtype="stdout")
    [process] = await wait_for_process(streaming)
    await settled(lambda: len(process.sizes) == 2)
    await streams["stdin"].write(b"go\n")
    await stdout.read_until(b"24 80\r\n")
    await streams["resize"].write(b'{"Width":132,"Height":43}')
    await settled(lambda: len(process.sizes) == 3)
    await streams["stdin"].write(b"go\n")
    await stdout.read_until(b"43 132\r\n")
    assert process.sizes == [(81, 25), (80, 24), (132, 43)]
    assert await streams["error"].read_all() == b'{"status":"Success"}'
    await client.close()


async def wait_for_process(streaming: Streaming) -> list:
    await settled(lambda: bool(streaming.host.processes))
    return streaming.host.processes


async def test_a_terminal_outlives_the_end_of_stdin(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("read x; sleep 0.3; echo $x", stdin=True, tty=True), V4)
    result = await client.command("error", "stdin", "stdout", "resize", stdin=b"hello\n")
    assert result.stdout.endswith(b"hello\r\n")
    assert result.exit_code == 0


async def test_nothing_is_sent_before_the_clients_first_frame(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("exit 0"), V4)
    await asyncio.sleep(0.5)
    assert client.received_bytes == 0
    assert not client.closed.is_set()
    assert (await client.command("error", "stdout", "stderr")).exit_code == 0


async def test_pings_are_echoed_while_the_command_runs(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.exec("cat", stdin=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "stderr")
    for number in (1, 2, 3):
        await client.write(frames.encode_ping(number))
    await settled(lambda: client.pongs == [1, 3])
    await streams["stdin"].end()
    assert await streams["error"].read_all() == b'{"status":"Success"}'
    await client.close()


async def test_streams_that_are_not_wanted(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.exec("cat", stdin=True, stderr=False), V4)
    error = await client.create(streamtype="error")
    bogus = await client.create(streamtype="bogus")
    assert bogus.reset_status == frames.RST_REFUSED_STREAM
    again = await client.create(streamtype="error")
    assert again.reset_status == frames.RST_PROTOCOL_ERROR
    stderr = await client.create(streamtype="stderr")
    assert stderr.reset_status is None
    assert await stderr.read_all() == b""
    stdin, stdout = await client.create(streamtype="stdin"), await client.create(streamtype="stdout")
    late = await client.create(streamtype="resize")
    assert late.reset_status == frames.RST_REFUSED_STREAM
    await stdin.write(b"still works")
    await stdin.end()
    assert await stdout.read_all() == b"still works"
    assert await error.read_all() == b'{"status":"Success"}'
    await client.close()


async def test_a_stream_that_never_comes_ends_the_session(start_streaming: Callable[..., Awaitable[Streaming]]) -> None:
    streaming = await start_streaming(creation_timeout_s=0.3)
    client = await SpdyClient.open(streaming.shell("echo never"), V4)
    error = await client.create(streamtype="error")
    await client.create(streamtype="stdout")
    status = json.loads(await error.read_all())
    assert "did not open the streams stderr" in status["message"]
    await client.closed.wait()
    await client.close()
    assert streaming.host.processes == []


@pytest.mark.parametrize("leave", ["goodbye", "close", "abort"])
async def test_a_command_dies_with_its_client(streaming: Streaming, leave: str) -> None:
    client = await SpdyClient.open(streaming.shell("sleep 1000 & sleep 1000", stdin=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "stderr")
    [process] = await wait_for_process(streaming)
    if leave == "goodbye":
        await client.say_goodbye()
    elif leave == "close":
        await client.close()
    else:
        client.wire.abort()
        await client.close()
    await settled(lambda: process.process.returncode == -9)
    assert process.killed
    await settled(lambda: streaming.server.session_count == 0)
    assert not streams["error"].received


async def test_a_client_that_leaves_behind_unread_stdin_is_noticed(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("sleep 1000", stdin=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "stderr")
    [process] = await wait_for_process(streaming)

    # More than is kept for the process, less than the kernel keeps: the end is behind bytes that are not read.
    await streams["stdin"].write(bytes(1_600_000))
    await asyncio.sleep(0.2)
    assert process.process.returncode is None
    await client.close()
    await settled(lambda: process.process.returncode == -9)


async def test_a_client_that_leaves_before_all_streams_exist_starts_nothing(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("echo never"), V4)
    await client.create_all("error", "stdout")
    await client.say_goodbye()
    await settled(lambda: streaming.server.session_count == 0)
    assert streaming.host.processes == []


async def test_a_client_that_stays_behind_go_away_is_closed(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("echo out"), V4)
    streams = await client.create_all("error", "stdout", "stderr")
    assert await streams["error"].read_all() == b'{"status":"Success"}'
    assert not client.closed.is_set()
    async with asyncio.timeout(5):
        await client.closed.wait()
    await client.close()


async def test_a_reset_output_is_dropped_and_the_command_goes_on(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("read x; seq 100000; echo done >&2", stdin=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "stderr")
    await streams["stdout"].reset()
    await streams["stdin"].write(b"go\n")
    assert await streams["stderr"].read_all() == b"done\n"
    assert await streams["error"].read_all() == b'{"status":"Success"}'
    assert streams["stdout"].received == b""
    await client.close()


async def test_a_child_that_keeps_the_output_open_is_not_waited_for_long(
    start_streaming: Callable[..., Awaitable[Streaming]],
) -> None:
    streaming = await start_streaming(drain_s=0.5)
    client = await SpdyClient.open(streaming.shell("sleep 5 & echo hi; exit 4"), V4)
    async with asyncio.timeout(4):
        result = await client.command("error", "stdout", "stderr")
    assert (result.stdout, result.exit_code) == (b"hi\n", 4)
    assert not streaming.host.processes[0].killed


async def test_output_and_exit_code_survive_unread_stdin(streaming: Streaming) -> None:
    """Closing with bytes unread would make the kernel drop what the client has not read yet."""
    for _ in range(10):
        client = await SpdyClient.open(streaming.shell("head -c 2000000 /dev/zero; exit 7", stdin=True), V4)
        result = await client.command("error", "stdin", "stdout", "stderr", stdin=bytes(3_000_000))
        assert (len(result.stdout), result.exit_code) == (2_000_000, 7)


@pytest.mark.parametrize("raw", ["8003000500000000", "8003000100ffffff", "80030001000000040000000000000000"])
async def test_broken_framing_ends_with_go_away_and_kills_the_command(streaming: Streaming, raw: str) -> None:
    client = await SpdyClient.open(streaming.shell("sleep 1000"), V4)
    await client.create_all("error", "stdout", "stderr")
    [process] = await wait_for_process(streaming)
    await client.write(bytes.fromhex(raw))
    await client.closed.wait()
    assert client.go_away is not None
    assert client.go_away.status == frames.GOAWAY_PROTOCOL_ERROR
    await client.close()
    await settled(lambda: process.process.returncode == -9)


async def test_a_flood_of_sizes_ends_with_go_away_and_kills_the_command(streaming: Streaming) -> None:
    client = await SpdyClient.open(streaming.shell("sleep 1000", stdin=True, tty=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "resize")
    [process] = await wait_for_process(streaming)
    await streams["resize"].write(b'{"Width":80,"Height":24}' * 12_000)
    await client.closed.wait()
    assert client.go_away is not None
    assert client.go_away.status == frames.GOAWAY_PROTOCOL_ERROR
    await client.close()
    await settled(lambda: process.process.returncode == -9)


async def test_the_last_byte_is_always_there_before_the_status(streaming: Streaming) -> None:
    """A thousand commands that end right behind their last byte, many at once."""
    turns = asyncio.Semaphore(8)

    async def run(number: int) -> None:
        async with turns:
            size = (number * 7919) % 100_000
            client = await SpdyClient.open(streaming.exec("head", "-c", str(size), "/dev/zero"), V4)
            result = await client.command("error", "stdout", "stderr")
            assert (len(result.stdout), result.status) == (size, b'{"status":"Success"}')

    async with asyncio.TaskGroup() as group:
        for number in range(1000):
            group.create_task(run(number))
