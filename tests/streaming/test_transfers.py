"""Large transfers and slow peers: nothing lost, memory and the loop's lateness within bounds, nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.streaming.client import V4, V5, SpdyClient, WebSocketClient, websocket_command
from tests.streaming.conftest import settled
from tests.streaming.targets import echo, target

pytestmark = pytest.mark.timeout(120)

_MIB = 1 << 20
#: What each of the concurrent transfers moves; the whole promise is checked with 256.
_TRANSFER_MIB = int(os.environ.get("CRI_TEST_TRANSFER_MIB", "32"))
_EXTRA_KIB = 64 * 1024
_LATE_S = 0.25

_PATTERN = "yes 0123456789abcdef | head -c {}"


class Remote:
    """The server process under measurement."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._turn = asyncio.Lock()

    async def ask(self, **request: object) -> object:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self._turn:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            return json.loads(await self.process.stdout.readline())

    async def shell(self, script: str, *, stdin: bool = False) -> str:
        return str(await self.ask(do="exec", command=["sh", "-c", script], stdin=stdin))

    async def report(self) -> dict[str, float]:
        report = await self.ask(do="report")
        assert isinstance(report, dict)
        return report


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    """A server in a process of its own; it has to end cleanly."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.streaming.standalone",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    remote = Remote(process)
    # The first session loads what later ones use.
    for number in range(3):
        client = await SpdyClient.open(await remote.shell(f"echo {number}"), V4)
        await client.command("error", "stdout", "stderr")
    yield remote
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


def expected(size: int) -> str:
    """Return the hash of what the pattern command prints."""
    whole, block = hashlib.sha256(), b"0123456789abcdef\n" * 61680
    for start in range(0, size, len(block)):
        whole.update(block[: size - start])
    return whole.hexdigest()


async def download(remote: Remote, size: int) -> None:
    """Take a command's output, and compare its hash."""
    client = await SpdyClient.open(await remote.shell(_PATTERN.format(size)), V4)
    streams = await client.create_all("stdout", "stderr")
    streams["stdout"].digest = digest = hashlib.sha256()
    error = await client.create(streamtype="error")
    assert await error.read_all() == b'{"status":"Success"}'
    await client.close()
    assert digest.hexdigest() == expected(size)


async def upload(remote: Remote, size: int) -> None:
    """Send input to a command that hashes it."""
    data = os.urandom(_MIB)
    whole = hashlib.sha256()
    client = await SpdyClient.open(await remote.shell("sha256sum", stdin=True), V4)
    streams = await client.create_all("error", "stdin", "stdout", "stderr")
    for _ in range(size // _MIB):
        whole.update(data)
        await streams["stdin"].write(data)
    await streams["stdin"].end()
    assert (await streams["stdout"].read_all()).split()[0].decode() == whole.hexdigest()
    await client.close()


async def forward(remote: Remote, port: int, size: int) -> None:
    """Send bytes through an echo in both directions at once."""
    client = await SpdyClient.open(str(await remote.ask(do="ports")), "portforward.k8s.io")
    _, data = await client.pair(port, 0)
    data.digest = got = hashlib.sha256()
    block, sent = os.urandom(_MIB), hashlib.sha256()
    for _ in range(size // _MIB):
        sent.update(block)
        await data.write(block)
    await data.end()
    await data.ended.wait()
    assert got.hexdigest() == sent.hexdigest()
    await client.close()


@pytest.mark.parametrize("kind", ["download", "upload", "forward"])
async def test_eight_transfers_at_once(remote: Remote, kind: str) -> None:
    before = await remote.report()
    await remote.ask(do="reset")
    size = _TRANSFER_MIB * _MIB
    transfers: dict[str, Callable[[int], Awaitable[None]]]
    async with target(echo) as port:
        transfers = {
            "download": lambda _: download(remote, size),
            "upload": lambda _: upload(remote, size),
            "forward": lambda _: forward(remote, port, size),
        }
        await asyncio.gather(*(transfers[kind](number) for number in range(8)))
    after = await remote.report()
    assert after["peak_kib"] - before["peak_kib"] < _EXTRA_KIB
    assert after["late_p99_s"] < _LATE_S


async def test_slow_readers_cost_no_memory_and_lose_nothing(remote: Remote) -> None:
    size = 24 * _MIB
    clients = [await SpdyClient.open(await remote.shell(_PATTERN.format(size)), V4) for _ in range(8)]
    await remote.ask(do="reset")
    before = await remote.report()
    runs = [asyncio.ensure_future(client.command("error", "stdout", "stderr")) for client in clients]
    await settled(lambda: all(client.received_bytes for client in clients))
    for client in clients:
        client.may_read.clear()
    await asyncio.sleep(1.0)
    held = await remote.report()
    assert held["peak_kib"] - before["peak_kib"] < 16 * 1024
    # A server that spins while its clients do not read would use all of this second.
    await remote.ask(do="reset")
    busy = (await remote.report())["cpu_s"]
    await asyncio.sleep(0.5)
    assert (await remote.report())["cpu_s"] - busy < 0.1
    for client in clients:
        client.may_read.set()
    for result in await asyncio.gather(*runs):
        assert hashlib.sha256(result.stdout).hexdigest() == expected(size)
        assert result.exit_code == 0


async def test_a_slow_command_takes_all_of_a_large_input(remote: Remote) -> None:
    """Input is held back while the command sleeps, over SPDY and over WebSocket."""
    data = os.urandom(10 * _MIB)
    client = await SpdyClient.open(await remote.shell("sleep 1; sha256sum", stdin=True), V4)
    websocket = await WebSocketClient.open(await remote.shell("sleep 1; sha256sum", stdin=True), V5)
    spdy_result, websocket_result = await asyncio.gather(
        client.command("error", "stdin", "stdout", "stderr", stdin=data), websocket_command(websocket, data)
    )
    for result in (spdy_result, websocket_result):
        assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
        assert result.exit_code == 0


async def quiet(remote: Remote) -> dict[str, float]:
    """Return a report from when no session is left."""
    async with asyncio.timeout(15):
        # The server is another process, which can only be asked.
        while (report := await remote.report())["sessions"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return report


async def test_files_and_tasks_return_to_their_baseline(remote: Remote) -> None:
    before = await quiet(remote)
    for _ in range(20):
        clients = [await SpdyClient.open(await remote.shell("sleep 100", stdin=True), V4) for _ in range(5)]
        for client in clients:
            await client.create_all("error", "stdin", "stdout", "stderr")
        for client in clients:
            await client.say_goodbye()
    after = await quiet(remote)
    assert (after["fds"], after["tasks"]) == (before["fds"], before["tasks"])
