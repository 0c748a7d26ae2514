"""Exec and attach sessions over web sockets, in the form that every server of the kind knows."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.behaviour.client import Container, Cri, Pod, eventually

PROTOCOL = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
SESSION_SECONDS = 40


@dataclass(slots=True)
class Received:
    """What came on each channel until the session's end."""

    channels: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))

    @property
    def stdout(self) -> bytes:
        """What came as stdout."""
        return bytes(self.channels[STDOUT])

    @property
    def stderr(self) -> bytes:
        """What came as stderr."""
        return bytes(self.channels[STDERR])

    @property
    def status(self) -> dict[str, Any]:
        """The status that ends a session."""
        return dict(json.loads(self.channels[ERROR]))


async def session(url: str, *messages: bytes, until: bytes = b"", then: bytes = b"") -> Received:
    """Open a session, send messages, and receive to the end; `then` is sent when stdout has `until`."""
    received = Received()
    async with (
        asyncio.timeout(SESSION_SECONDS),
        aiohttp.ClientSession() as http,
        http.ws_connect(url, protocols=[PROTOCOL], max_msg_size=0) as socket,
    ):
        assert socket.protocol == PROTOCOL
        for message in messages:
            await socket.send_bytes(message)
        async for frame in socket:
            if frame.type != aiohttp.WSMsgType.BINARY:
                continue
            received.channels[frame.data[0]] += frame.data[1:]
            if then and until in received.stdout:
                await socket.send_bytes(then)
                then = b""
    return received


def exec_url(cri: Cri, container: Container, *command: str, **fields: bool) -> str:
    """Return a URL for an exec session."""
    streams = {"stdout": True, **fields}
    return str(cri("Exec", container_id=container.id, cmd=list(command), **streams).url)


@pytest.mark.behaviour("SEM-01", "SEM-02", "WIR-02", "WIR-03", "WIR-05", "STR-06")
async def test_outputs_and_exit_code_reach_the_client(cri: Cri, container: Container) -> None:
    url = exec_url(cri, container, "sh", "-c", "echo out; echo err >&2; exit 3", stderr=True)
    received = await session(url)
    assert (received.stdout, received.stderr) == (b"out\n", b"err\n")
    assert received.status["status"] == "Failure"
    assert received.status["reason"] == "NonZeroExitCode"
    (cause,) = received.status["details"]["causes"]
    assert (cause["reason"], cause["message"]) == ("ExitCode", "3")


@pytest.mark.behaviour("SEM-01", "WIR-03")
async def test_success_is_told_after_all_output(cri: Cri, container: Container) -> None:
    for _ in range(5):
        received = await session(exec_url(cri, container, "seq", "1", "20000"))
        assert received.stdout == b"".join(b"%d\n" % number for number in range(1, 20_001))
        assert received.stderr == b""
        assert received.status["status"] == "Success"


@pytest.mark.behaviour("SEM-01", "SEM-03", "WIR-04")
async def test_terminal_session_takes_input_and_size(cri: Cri, container: Container) -> None:
    url = exec_url(cri, container, "sh", tty=True, stdin=True)
    size = bytes([RESIZE]) + b'{"Width":91,"Height":47}'
    typed = bytes([STDIN]) + b"echo $TERM; echo re''ady\n"
    received = await session(url, size, typed, until=b"ready", then=bytes([STDIN]) + b"stty size; exit 5\n")
    assert b"xterm" in received.stdout
    assert b"47 91" in received.stdout
    assert received.status["details"]["causes"][0]["message"] == "5"


@pytest.mark.behaviour("EXE-05", "SEM-01", "WIR-03")
async def test_missing_program_is_told(cri: Cri, container: Container) -> None:
    received = await session(exec_url(cri, container, "/no/such/program", stderr=True))
    assert received.status["status"] == "Failure"


@pytest.mark.behaviour("STR-05")
async def test_url_works_once(cri: Cri, container: Container) -> None:
    url = exec_url(cri, container, "true")
    await session(url)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await session(url)
    assert refusal.value.status == 404


@pytest.mark.behaviour("SEM-04", "SEM-05", "CRE-12")
async def test_attach_joins_and_ends_with_the_container(cri: Cri, pod: Pod) -> None:
    script = "echo early; read line; echo got $line; exit 0"
    container = pod.start("sh", "-c", script, stdin=True)
    eventually(container.output, bool, "the first line")
    url = cri("Attach", container_id=container.id, stdin=True, stdout=True, stderr=True).url
    received = await session(url, bytes([STDIN]) + b"hello\n")
    assert received.stdout.endswith(b"got hello\n")
    assert container.wait().exit_code == 0
    assert container.output() == "early\ngot hello"


@pytest.mark.behaviour("SEM-04", "CRE-12")
async def test_detaching_leaves_the_process_alone(cri: Cri, pod: Pod) -> None:
    container = pod.start("sh", "-c", "while read line; do echo got $line; done", stdin=True)
    for number in range(2):
        url = cri("Attach", container_id=container.id, stdin=True, stdout=True, stderr=True).url
        async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=[PROTOCOL]) as socket:
            await socket.send_bytes(bytes([STDIN]) + b"line %d\n" % number)
            eventually(container.output, lambda text, number=number: f"got line {number}" in text, "the answer")
    assert container.exec("true").exit_code == 0
    container.stop()


@pytest.mark.behaviour("SEM-04", "LOG-07")
async def test_two_clients_and_the_log_see_the_same(cri: Cri, pod: Pod) -> None:
    container = pod.start("sh", "-c", "read line; seq 1 1000", stdin=True)
    urls = [cri("Attach", container_id=container.id, stdin=True, stdout=True).url for _ in range(2)]
    first = asyncio.ensure_future(session(urls[0]))
    await asyncio.sleep(0.5)
    second = await session(urls[1], bytes([STDIN]) + b"go\n")
    wanted = b"".join(b"%d\n" % number for number in range(1, 1001))
    assert second.stdout == wanted
    assert (await first).stdout == wanted
    container.wait()
    assert container.output().encode() + b"\n" == wanted


@pytest.mark.behaviour("SEM-07", "WIR-07", "STR-06")
async def test_port_is_forwarded_into_the_pod(cri: Cri, pod: Pod) -> None:
    server = pod.start("sh", "-c", "echo served >/tmp/index.html && exec httpd -f -p 8099 -h /tmp")
    eventually(lambda: server.sh("netstat -ltn"), lambda text: ":8099 " in text, "the server")
    url = cri("PortForward", pod_sandbox_id=pod.id, port=[8099]).url
    answer = bytearray()
    request = b"GET /index.html HTTP/1.0\r\n\r\n"
    async with (
        asyncio.timeout(SESSION_SECONDS),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}?port=8099", protocols=[PROTOCOL]) as socket,
    ):
        await socket.send_bytes(b"\0" + request)
        async for frame in socket:
            if frame.type == aiohttp.WSMsgType.BINARY and frame.data[0] == 0:
                answer += frame.data[1:]
            if answer.endswith(b"served\n"):
                break
    assert answer[:2] == (8099).to_bytes(2, "little")
    assert answer[2:].startswith(b"HTTP/1.1 200")


@pytest.mark.behaviour("SEM-08")
async def test_large_output_is_whole(cri: Cri, container: Container) -> None:
    size = 20_000_000
    received = await session(exec_url(cri, container, "sh", "-c", f"yes 0123456789abcde | head -c {size}"))
    assert received.stdout == (b"0123456789abcde\n" * (size // 16 + 1))[:size]
