"""URLs, tokens, refusals, timeouts, TLS and shutdown of the streaming server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.protocol.remote_command import Streams
from cri_dockerd_py.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest
from cri_dockerd_py.streaming.server import StreamingServer, url_host
from cri_dockerd_py.streaming.tokens import TokenCache
from tests.streaming.client import V4, V5, Refused, SpdyClient, WebSocketClient, request, websocket_command
from tests.streaming.conftest import Streaming, settled
from tests.streaming.local_process import LocalHost

pytestmark = pytest.mark.timeout(60)

StartStreaming = Callable[..., Awaitable[Streaming]]
_OUT = Streams(stdin=False, stdout=True, stderr=False, tty=False)
_UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", V4)]


def test_urls_name_a_host_that_can_be_dialled() -> None:
    assert url_host("127.0.0.1") == "127.0.0.1"
    assert url_host("0.0.0.0") == "127.0.0.1"
    assert url_host("::") == "[::1]"
    assert url_host("fd00:0::1") == "[fd00::1]"
    assert url_host("fe80::1%eth0") == "[fe80::1%25eth0]"
    assert url_host("localhost") == "localhost"


@pytest.mark.parametrize("address", ["", "127.0.0.1", "0.0.0.0", "::", "::1", "localhost"])
async def test_urls_work_for_any_bind(start_streaming: StartStreaming, address: str) -> None:
    streaming = await start_streaming(address=address)
    url = streaming.shell("echo hi")
    assert url.startswith("http://")
    assert url.split("/")[3] == "exec"
    client = await SpdyClient.open(url, V4)
    assert (await client.command("error", "stdout", "stderr")).stdout == b"hi\n"


async def test_an_address_that_is_taken_is_told(streaming: Streaming) -> None:
    port = int(streaming.server.base_url.rpartition(":")[2])
    other = StreamingServer(StreamingOptions(port=port), LocalHost().openers())
    with pytest.raises(Unavailable, match=str(port)):
        await other.start()
    with pytest.raises(FailedPrecondition):
        other.exec_url(ExecRequest("c1", ("true",), _OUT))


@pytest.mark.parametrize(
    "wrong",
    [
        ExecRequest("", ("true",), _OUT),
        ExecRequest("c1", (), _OUT),
        ExecRequest("c1", ("true",), Streams(stdin=False, stdout=False, stderr=False, tty=False)),
        ExecRequest("c1", ("true",), Streams(stdin=False, stdout=True, stderr=True, tty=True)),
        AttachRequest("", _OUT),
        AttachRequest("c1", Streams(stdin=False, stdout=False, stderr=False, tty=True)),
        PortForwardRequest(""),
        PortForwardRequest("sb1", (0,)),
        PortForwardRequest("sb1", (65536,)),
    ],
)
def test_senseless_requests_are_refused(wrong: ExecRequest | AttachRequest | PortForwardRequest) -> None:
    with pytest.raises(InvalidArgument):
        wrong.check()


async def status_of(url: str, method: str = "POST", headers: list[tuple[str, str]] | None = None) -> int:
    head, _, writer = await request(url, _UPGRADE if headers is None else headers, method)
    writer.close()
    if head.status != 101:
        assert head.all("Content-Length")
        assert head.body
    return head.status


async def test_a_token_is_good_once_whatever_becomes_of_it(streaming: Streaming) -> None:
    url = streaming.shell("exit 0")
    client = await SpdyClient.open(url, V4)
    await client.command("error", "stdout", "stderr")
    assert await status_of(url) == 404
    url = streaming.shell("exit 0")
    assert await status_of(url, headers=[]) == 400
    assert await status_of(url) == 404
    url = streaming.shell("exit 0")
    assert await status_of(url, method="DELETE") == 405
    assert await status_of(url.replace("/exec/", "/attach/")) == 404
    assert await status_of(url) == 404
    assert streaming.host.processes[1:] == []


@pytest.mark.parametrize("path", ["/", "/exec", "/exec/", "/exec/unknown", "/other/x", "/exec/../x"])
async def test_unknown_paths_are_not_found(streaming: Streaming, path: str) -> None:
    assert await status_of(streaming.server.base_url + path) == 404


def test_tokens_cannot_be_guessed_and_do_not_repeat() -> None:
    cache = TokenCache(lambda: 0.0, 60.0, 10_000)
    tokens = {cache.insert(PortForwardRequest("sb1")) for _ in range(5000)}
    assert len(tokens) == 5000
    assert min(map(len, tokens)) >= 22


def test_tokens_grow_old_and_their_number_is_limited() -> None:
    now = [0.0]
    cache = TokenCache(lambda: now[0], 60.0, 3)
    first = cache.insert(PortForwardRequest("a"))
    now[0] = 30.0
    second, third = cache.insert(PortForwardRequest("b")), cache.insert(PortForwardRequest("c"))
    with pytest.raises(ResourceExhausted, match="maximum number of in-flight requests exceeded"):
        cache.insert(PortForwardRequest("d"))
    now[0] = 60.0
    assert cache.consume(first) is None
    assert cache.consume(second) == PortForwardRequest("b")
    now[0] = 100.0
    cache.insert(PortForwardRequest("e"))
    assert cache.consume(third) is None


async def test_a_used_token_makes_room(start_streaming: StartStreaming) -> None:
    streaming = await start_streaming(token_limit=1)
    url = streaming.shell("exit 0")
    with pytest.raises(ResourceExhausted):
        streaming.shell("exit 0")
    assert await status_of(url, headers=[]) == 400
    streaming.shell("exit 0")


async def test_no_common_protocol_is_told_with_what_is_known(streaming: Streaming) -> None:
    with pytest.raises(Refused) as refused:
        await SpdyClient.open(streaming.shell("exit 0"), "v9.channel.k8s.io")
    head = refused.value.head
    assert head.status == 403
    assert head.all("X-Accepted-Stream-Protocol-Versions")[0] == V4


async def raw_answer(streaming: Streaming, *pieces: bytes) -> bytes:
    host, _, port = streaming.server.base_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_broken_heads_are_refused(streaming: Streaming) -> None:
    assert (await raw_answer(streaming, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert (await raw_answer(streaming, b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)).startswith(b"HTTP/1.1 431 ")


async def test_a_head_may_come_byte_by_byte(streaming: Streaming) -> None:
    head = b"GET /exec/x HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await raw_answer(streaming, *(head[i : i + 1] for i in range(len(head))))
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_a_head_that_does_not_come_is_not_waited_for(start_streaming: StartStreaming) -> None:
    streaming = await start_streaming(head_timeout_s=0.2)
    assert (await raw_answer(streaming, b"GET / HT")).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_session_ends_with_a_status_and_its_command(start_streaming: StartStreaming) -> None:
    streaming = await start_streaming(idle_timeout_s=0.4)
    client = await SpdyClient.open(streaming.shell("sleep 1000"), V4)
    websocket = await WebSocketClient.open(streaming.shell("sleep 1000"), V5)
    result = await client.command("error", "stdout", "stderr")
    assert "idle for too long" in json.loads(result.status)["message"]
    other = await websocket_command(websocket)
    assert "idle for too long" in json.loads(other.status)["message"]
    assert other.close_code == 1000
    await settled(lambda: [p.process.returncode for p in streaming.host.processes] == [-9, -9])


async def test_movement_keeps_a_session_from_being_idle(start_streaming: StartStreaming) -> None:
    streaming = await start_streaming(idle_timeout_s=0.5)
    client = await SpdyClient.open(streaming.shell("for i in 1 2 3 4 5 6; do sleep 0.2; echo $i; done"), V4)
    result = await client.command("error", "stdout", "stderr")
    assert (result.stdout, result.exit_code) == (b"1\n2\n3\n4\n5\n6\n", 0)


async def test_a_stopping_server_tells_its_clients(streaming: Streaming) -> None:
    commands = [await SpdyClient.open(streaming.shell("sleep 1000"), V4) for _ in range(3)]
    runs = [asyncio.ensure_future(client.command("error", "stdout", "stderr")) for client in commands]
    websocket = await WebSocketClient.open(streaming.shell("sleep 1000"), V5)
    ports = await SpdyClient.open(streaming.ports(), "portforward.k8s.io")
    other = asyncio.ensure_future(websocket_command(websocket))
    await settled(lambda: len(streaming.host.processes) == 4)
    async with asyncio.timeout(5):
        stopping = asyncio.ensure_future(streaming.server.stop())
        for run in runs:
            assert b"shutting down" in (await run).status
        result = await other
        await ports.closed.wait()
        await ports.close()
        await stopping
    assert b"shutting down" in result.status
    assert result.close_code == 1000
    assert ports.go_away is not None
    with pytest.raises(FailedPrecondition):
        streaming.shell("exit 0")


async def test_a_client_that_ignores_the_shutdown_does_not_hold_it(start_streaming: StartStreaming) -> None:
    streaming = await start_streaming(stop_s=0.3)
    client = await SpdyClient.open(streaming.shell("sleep 1000"), V4)
    await client.create_all("error", "stdout", "stderr")
    client.may_read.clear()
    async with asyncio.timeout(3):
        await streaming.server.stop()
    client.may_read.set()
    await client.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def test_over_tls(start_streaming: StartStreaming, certificate: tuple[Path, Path]) -> None:
    streaming = await start_streaming(tls_cert_file=str(certificate[0]), tls_key_file=str(certificate[1]))
    url = streaming.shell("cat; exit 3", stdin=True)
    assert url.startswith("https://")
    client = await SpdyClient.open(url, V4)
    result = await client.command("error", "stdin", "stdout", "stderr", stdin=bytes(2_000_000))
    assert (len(result.stdout), result.exit_code) == (2_000_000, 3)
    websocket = await WebSocketClient.open(streaming.shell("head -c 2000000 /dev/zero; exit 4"), V5)
    other = await websocket_command(websocket)
    assert (len(other.stdout), other.exit_code, other.close_code) == (2_000_000, 4, 1000)


def test_half_a_tls_configuration_is_refused(certificate: tuple[Path, Path]) -> None:
    cert, key = map(str, certificate)
    for options in (
        StreamingOptions(tls_cert_file=cert),
        StreamingOptions(tls_key_file=key),
        StreamingOptions(tls_cert_file=cert, tls_key_file="/no/such/key"),
    ):
        with pytest.raises(InvalidArgument):
            StreamingServer(options, LocalHost().openers())


async def test_a_fault_of_an_engine_ends_its_session_alone(streaming: Streaming) -> None:
    def fault() -> None:
        raise RuntimeError("a fault")

    streaming.host.before_exec = fault
    client = await SpdyClient.open(streaming.shell("exit 0"), V4)
    await client.create_all("error", "stdout", "stderr")
    await client.closed.wait()
    await client.close()
    streaming.host.before_exec = lambda: None
    client = await SpdyClient.open(streaming.shell("exit 0"), V4)
    assert (await client.command("error", "stdout", "stderr")).exit_code == 0
