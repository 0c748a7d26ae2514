"""Real kubectl of two generations against the streaming server, behind a proxy like kubelet's."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.streaming.protocol.remote_command import Streams
from cri_dockerd_py.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest
from tests.streaming.apiserver import ApiServer
from tests.streaming.conftest import Streaming, settled
from tests.streaming.kubectl import KINDS, Kubectl
from tests.streaming.local_process import FdReader
from tests.streaming.targets import network_namespace, target

pytestmark = pytest.mark.timeout(120)


class Urls:
    """Hands out URLs of the server under test."""

    def __init__(self, streaming: Streaming) -> None:
        self._server = streaming.server

    async def exec(
        self, container: str, command: tuple[str, ...], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        streams = Streams(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)
        return self._server.exec_url(ExecRequest(container, command, streams))

    async def attach(self, container: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        streams = Streams(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)
        return self._server.attach_url(AttachRequest(container, streams))

    async def port_forward(self) -> str:
        return self._server.port_forward_url(PortForwardRequest("sb1"))


@pytest.fixture(params=KINDS)
async def kube(request: pytest.FixtureRequest, streaming: Streaming, tmp_path: Path) -> AsyncIterator[Kubectl]:
    """Each kubectl and transport; the one that was meant has to have been used."""
    kind = KINDS[request.param]
    api = ApiServer(Urls(streaming), refuse_websocket=kind.refuse_websocket)
    yield Kubectl(kind, api, await api.start(), tmp_path)
    await api.stop()
    assert api.upgrades
    assert {upgrade.partition(" ")[0].lower() for upgrade in api.upgrades} == {kind.transport}


@pytest.mark.parametrize("code", [0, 1, 137])
async def test_exec_tells_outputs_and_exit_code(kube: Kubectl, code: int) -> None:
    result = await kube.shell(f"echo out; echo err >&2; exit {code}")
    assert (result.code, result.stdout) == (code, b"out\n")
    assert result.stderr.startswith(b"err\n")
    assert (f"exit code {code}" in result.stderr.decode()) is bool(code)


async def test_exec_of_a_missing_command(kube: Kubectl) -> None:
    result = await kube.run("exec", "web", "--", "/no/such/program")
    assert result.code == 1
    assert b"/no/such/program: No such file or directory" in result.stderr


async def test_exec_with_a_large_input(kube: Kubectl) -> None:
    data = os.urandom(64 << 20)
    result = await kube.shell("sha256sum", "-i", stdin=data)
    assert result.code == 0, result.stderr
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_exec_with_a_large_output(kube: Kubectl) -> None:
    result = await kube.shell("yes 0123456789abcde | head -c 33554432; exit 7")
    assert result.code == 7
    assert result.stdout == b"0123456789abcde\n" * (2 << 20)


async def test_output_and_exit_code_survive_unread_input(kube: Kubectl) -> None:
    """Through a proxy that closes both sides at the first end, with input that nobody reads."""
    for _ in range(3):
        result = await kube.shell("head -c 2000000 /dev/zero; exit 7", "-i", stdin=bytes(3_000_000))
        assert (result.code, len(result.stdout)) == (7, 2_000_000)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal; the inner one is closed by the test."""
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)


async def test_exec_on_a_terminal_that_is_resized(
    terminal: tuple[int, int], kube: Kubectl, streaming: Streaming
) -> None:
    master, slave = terminal
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = ("exec", "-it", "web", "--", "sh", "-c", "while read x; do $x; done")
    try:
        process = await kube.start(*words, stdin=slave, stdout=slave, stderr=slave)
    finally:
        os.close(slave)
    seen, reader = bytearray(), FdReader(master)

    async def wait_for(pattern: bytes) -> None:
        async with asyncio.timeout(20):
            while re.search(pattern, seen) is None:
                data = await reader.read()
                assert data, bytes(seen)
                seen.extend(data)

    async def drain() -> None:
        while await reader.read():
            pass

    await settled(lambda: bool(streaming.host.processes) and (80, 24) in streaming.host.processes[0].sizes, 20)
    os.write(master, b"stty size\r")
    await wait_for(rb"24 80\r\n")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 43, 132, 0, 0))
    # The terminal is not kubectl's controlling one here, so the kernel does not tell it; and kubectl drops a size
    # that it is told while it is busy.
    async with asyncio.timeout(20):
        while (132, 43) not in streaming.host.processes[0].sizes:
            process.send_signal(signal.SIGWINCH)
            await asyncio.sleep(0.2)
    os.write(master, b"stty size\r")
    await wait_for(rb"43 132\r\n")
    os.write(master, b"exit 5\r")
    draining = asyncio.ensure_future(drain())
    assert await process.wait() == 5
    draining.cancel()
    await asyncio.wait([draining])


async def test_cp_both_ways(kube: Kubectl, tmp_path: Path) -> None:
    source, inside, back = tmp_path / "source", tmp_path / "inside", tmp_path / "back"
    source.write_bytes(os.urandom(8 << 20))
    result = await kube.run("cp", str(source), f"web:{inside}")
    assert result.code == 0, result.stderr
    assert inside.read_bytes() == source.read_bytes()
    result = await kube.run("cp", f"web:{inside}", str(back))
    assert result.code == 0, result.stderr
    assert back.read_bytes() == source.read_bytes()


async def test_attach(kube: Kubectl, streaming: Streaming) -> None:
    container = await streaming.run_container('while read x; do echo "got $x"; done; echo bye', stdin_once=True)
    process = await kube.start("attach", "-i", "web", stdin=asyncio.subprocess.PIPE)
    await settled(lambda: bool(container.attached), 20)
    stdout, stderr = await process.communicate(b"hello\n")
    assert process.returncode == 0, stderr
    assert b"got hello\nbye\n" in stdout


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_killed_kubectl_takes_its_command_along(kube: Kubectl, streaming: Streaming, how: int) -> None:
    process = await kube.start("exec", "web", "--", "sleep", "1000")
    await settled(lambda: bool(streaming.host.processes), 20)
    process.send_signal(how)
    await process.communicate()
    await settled(lambda: streaming.host.processes[0].process.returncode == -9)


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one HTTP request with a body that depends on its path."""
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    body = path * 10_000
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


async def fetch(port: int, path: bytes) -> bytes:
    """Return what is served at a path."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


async def test_port_forward_with_many_requests_at_once(kube: Kubectl, streaming: Streaming) -> None:
    with network_namespace() as path:
        streaming.host.netns_path = path
        async with target(http, netns_path=path) as port:
            process = await kube.start("port-forward", "--address", "127.0.0.1", "pod/web", f":{port}")
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            match = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ->", line)
            assert match is not None, line
            paths = [f"/{number}".encode() for number in range(20)]
            for _ in range(2):
                bodies = await asyncio.gather(*(fetch(int(match[1]), path) for path in paths))
                assert bodies == [path * 10_000 for path in paths]
            process.terminate()
            await process.communicate()
    await settled(lambda: streaming.server.session_count == 0)


async def test_port_forward_to_a_refused_port(kube: Kubectl) -> None:
    process = await kube.start("port-forward", "--address", "127.0.0.1", "pod/web", ":9")
    assert process.stdout is not None
    match = re.search(r":(\d+) ->", (await process.stdout.readline()).decode())
    assert match is not None
    assert await fetch(int(match[1]), b"/") == b""
    with contextlib.suppress(ProcessLookupError):
        async with asyncio.timeout(20):
            assert process.stderr is not None
            text = b""
            while b"Connection refused" not in text and (more := await process.stderr.read(1000)):
                text += more
        process.kill()
    await process.communicate()
    assert b"failed to connect to localhost:9" in text
