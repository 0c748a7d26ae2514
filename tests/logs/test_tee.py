"""Clients that are attached to a container's output, also slow ones and such that vanish."""

from __future__ import annotations

import asyncio
import fcntl
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.logs.container_log import DEFAULT_CHUNK_BYTES
from cri_dockerd_py.logs.outputs import ContainerOutputs
from cri_dockerd_py.logs.tee import BUFFER_BYTES, STDERR, STDOUT, OutputTee
from tests.logs.shim import Shim, numbers, printed

SOON_SECONDS = 10.0


class Node:
    """A container that runs, and what reads its output."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "0.log"
        self.shim = Shim(directory / "c1")
        self.other_log = directory / "1.log"
        self.other = Shim(directory / "c2")
        self.outputs = ContainerOutputs(directory / "state")

    async def start(self) -> None:
        await self.outputs.start()
        await self.outputs.open("c1", str(self.log), self.shim.stdout, self.shim.stderr)
        await self.outputs.open("c2", str(self.other_log), self.other.stdout, self.other.stderr)
        self.shim.start()
        self.other.start()

    async def close(self) -> None:
        await self.outputs.close()
        self.shim.end()
        self.other.end()

    async def seen(self, what: bytes, path: Path) -> None:
        async with asyncio.timeout(SOON_SECONDS):
            while what not in path.read_bytes():  # noqa: ASYNC110
                await asyncio.sleep(0.002)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    await node.start()
    yield node
    await node.close()


async def take(tee: OutputTee, size: int) -> dict[int, bytes]:
    """Read until a number of bytes has come."""
    got = {STDOUT: b"", STDERR: b""}
    async with asyncio.timeout(SOON_SECONDS):
        while sum(map(len, got.values())) < size:
            chunk = await tee.read()
            assert chunk is not None
            got[chunk[0]] += chunk[1]
    return got


async def take_all(tee: OutputTee) -> dict[int, bytes]:
    """Read to the end."""
    got: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    async with asyncio.timeout(60):
        while (chunk := await tee.read()) is not None:
            got[chunk[0]].append(chunk[1])
    return {stream: b"".join(chunks) for stream, chunks in got.items()}


@pytest.mark.behaviour("SEM-04", "SEM-05")
async def test_clients_get_raw_bytes_from_when_they_came_to_the_end(node: Node) -> None:
    node.shim.print(b"history\n")
    await node.seen(b"history", node.log)
    first = await node.outputs.subscribe("c1")
    node.shim.print(b"prompt$ ")
    node.shim.print(b"oh\r\n", STDERR)
    assert await take(first, 12) == {STDOUT: b"prompt$ ", STDERR: b"oh\r\n"}
    second = await node.outputs.subscribe("c1", [STDERR])
    node.shim.print(b"ls\n")
    node.shim.print(b"\0last", STDERR)
    node.shim.end()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert await take_all(first) == {STDOUT: b"ls\n", STDERR: b"\0last"}
    assert await take_all(second) == {STDOUT: b"", STDERR: b"\0last"}
    assert await first.read() is None
    assert printed(node.log) == b"history\nprompt$ ls\n"
    for _ in range(2):
        first.close()


@pytest.mark.behaviour("SEM-04")
async def test_what_nobody_keeps_can_be_seen(tmp_path: Path) -> None:
    outputs, shim = ContainerOutputs(tmp_path / "state"), Shim(tmp_path / "c1")
    await outputs.start()
    await outputs.open("c1", "", shim.stdout, shim.stderr)
    shim.start()
    tee = await outputs.subscribe("c1")
    process = shim.spawn("seq 1 300000; printf end >&2")
    async with asyncio.TaskGroup() as group:
        everything = group.create_task(take_all(tee), name="client")
        assert await asyncio.to_thread(process.wait, SOON_SECONDS) == 0
        shim.end()
        assert await outputs.finish("c1", SOON_SECONDS)
    assert everything.result() == {STDOUT: numbers(1, 300_000), STDERR: b"end"}
    await outputs.close()


async def stuck(node: Node) -> subprocess.Popen[bytes]:
    """A process that waits in its write, because a client takes nothing; another container is none the worse."""
    process = node.shim.spawn("seq 1 300000")
    async with asyncio.timeout(SOON_SECONDS):
        while not full(node.shim):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert await asyncio.to_thread(node.other.spawn("seq 1 100000").wait, SOON_SECONDS) == 0
    await node.seen(b" F 100000\n", node.other_log)
    assert process.poll() is None
    size = -1
    while size != (size := node.log.stat().st_size):  # noqa: ASYNC110 - the last chunk is being written
        await asyncio.sleep(0.1)
    assert len(printed(node.log)) <= BUFFER_BYTES + DEFAULT_CHUNK_BYTES
    return process


def full(shim: Shim) -> bool:
    """Whether hardly more fits into the pipe of a container's stdout."""
    waiting = int.from_bytes(fcntl.ioctl(shim.fds[0], termios.FIONREAD, bytes(4)), sys.byteorder)
    return waiting >= fcntl.fcntl(shim.fds[0], fcntl.F_GETPIPE_SZ) - 8192


@pytest.mark.behaviour("SEM-04", "LOG-09")
async def test_a_client_that_reads_slowly_slows_its_container_and_nothing_is_lost(node: Node) -> None:
    tee = await node.outputs.subscribe("c1")
    process = await stuck(node)
    got = await take(tee, len(numbers(1, 300_000)))
    assert got[STDOUT] == numbers(1, 300_000)
    assert await asyncio.to_thread(process.wait, SOON_SECONDS) == 0
    node.shim.end()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log) == numbers(1, 300_000)
    assert await tee.read() is None


@pytest.mark.behaviour("SEM-04", "LOG-09")
async def test_a_client_that_vanishes_lets_its_container_go_on(node: Node) -> None:
    tee = await node.outputs.subscribe("c1")
    process = await stuck(node)
    tee.close()
    assert await tee.read() is None
    assert await asyncio.to_thread(process.wait, SOON_SECONDS) == 0
    node.shim.end()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log) == numbers(1, 300_000)


async def test_a_client_of_one_stream_does_not_wait_for_the_other(node: Node) -> None:
    tee = await node.outputs.subscribe("c1", [STDERR])
    assert await asyncio.to_thread(node.shim.spawn("seq 1 300000; printf end >&2").wait, SOON_SECONDS) == 0
    assert await take(tee, 3) == {STDOUT: b"", STDERR: b"end"}


@pytest.mark.behaviour("SEM-05", "CST-11")
async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(node: Node) -> None:
    tee = await node.outputs.subscribe("c1")
    node.shim.spawn("head -c 900K /dev/zero | tr '\\0' x; head -c 900K /dev/zero >&2").wait(SOON_SECONDS)
    node.shim.end()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert {stream: len(data) for stream, data in (await take_all(tee)).items()} == {
        STDOUT: 900 << 10,
        STDERR: 900 << 10,
    }


async def test_a_client_that_takes_nothing_bounds_what_a_child_in_the_background_prints(node: Node) -> None:
    tee = await node.outputs.subscribe("c1")
    child = node.shim.spawn("exec yes from a child in the background")
    await node.seen(b"child", node.log)
    assert not await node.outputs.finish("c1", 0.5)
    child.kill()
    child.wait()
    assert len((await take_all(tee))[STDOUT]) < 8 << 20


async def test_closing_ends_whoever_reads(node: Node) -> None:
    tee = await node.outputs.subscribe("c1")
    async with asyncio.timeout(SOON_SECONDS), asyncio.TaskGroup() as group:
        reading = group.create_task(tee.read(), name="read")
        await asyncio.sleep(0)
        tee.close()
    assert reading.result() is None
    node.shim.print(b"goes on\n")
    await node.seen(b"goes on", node.log)


async def test_clients_see_the_end_when_the_service_stops(node: Node) -> None:
    tee = await node.outputs.subscribe("c1")
    await node.outputs.close()
    assert await tee.read() is None
    tee.close()


async def test_only_what_runs_can_be_attached_to(node: Node) -> None:
    with pytest.raises(NotFound):
        await node.outputs.subscribe("unknown")
    node.shim.end()
    await node.outputs.finish("c1", SOON_SECONDS)
    with pytest.raises(FailedPrecondition, match="not running"):
        await node.outputs.subscribe("c1")
