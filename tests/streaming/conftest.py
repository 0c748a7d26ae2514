"""A streaming server on real local processes, in the test's own loop; every test checks that nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.protocol.remote_command import Streams
from cri_dockerd_py.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest
from cri_dockerd_py.streaming.server import StreamingServer
from tests.streaming.local_process import LocalContainer, LocalHost, start_process


def open_fds() -> set[str]:
    """Return what this process has open, without what the loop needs for itself."""
    names = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue
    return {name for name in names if "anon_inode:[pidfd]" not in name}


async def settled(
    check: Callable[[], bool], within_s: float = 10.0, what: Callable[[], str] = lambda: "it did not come about"
) -> None:
    """Wait for what the peers' kernels and the loop still have to do."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not check():
        assert asyncio.get_running_loop().time() < deadline, what()
        await asyncio.sleep(0.01)


class Streaming:
    """The server under test and the host that it works on."""

    def __init__(self, server: StreamingServer, host: LocalHost) -> None:
        self.server = server
        self.host = host

    def exec(
        self, *command: str, stdin: bool = False, stdout: bool = True, stderr: bool = True, tty: bool = False
    ) -> str:
        streams = Streams(stdin=stdin, stdout=stdout, stderr=stderr and not tty, tty=tty)
        return self.server.exec_url(ExecRequest("c1", command, streams))

    def shell(self, script: str, *, stdin: bool = False, stderr: bool = True, tty: bool = False) -> str:
        return self.exec("sh", "-c", script, stdin=stdin, stderr=stderr, tty=tty)

    def attach(self, *, stdin: bool = False, tty: bool = False) -> str:
        streams = Streams(stdin=stdin, stdout=True, stderr=not tty, tty=tty)
        return self.server.attach_url(AttachRequest("c1", streams))

    def ports(self, *ports: int) -> str:
        return self.server.port_forward_url(PortForwardRequest("sb1", ports))

    async def run_container(self, script: str, *, stdin_once: bool = False, tty: bool = False) -> LocalContainer:
        process = await start_process(("sh", "-c", script), tty=tty, stdin=True, stdout=True, stderr=True)
        self.host.container = LocalContainer(process, stdin_once=stdin_once)
        return self.host.container


@pytest.fixture
async def start_streaming() -> AsyncIterator[Callable[..., Awaitable[Streaming]]]:
    """A function that starts a server with the given options; checks tasks and open files in the end."""
    gc.collect()
    fds, tasks = open_fds(), asyncio.all_tasks()
    started: list[Streaming] = []

    async def start(**options: object) -> Streaming:
        host = LocalHost()
        server = StreamingServer(StreamingOptions(**options), host.openers())  # type: ignore[arg-type]
        await server.start()
        started.append(Streaming(server, host))
        return started[-1]

    yield start
    for streaming in started:
        await streaming.server.stop()
        if streaming.host.container is not None:
            await streaming.host.container.close()
        for process in streaming.host.processes:
            assert process.process.returncode is not None, "a process was left running"
    # The steps of a fixture run in tasks of their own.
    mine = {asyncio.current_task()}
    await settled(lambda: asyncio.all_tasks() <= tasks | mine, what=lambda: f"tasks: {asyncio.all_tasks() - tasks}")
    await settled(lambda: open_fds() <= fds, what=lambda: f"open: {open_fds() - fds}")


@pytest.fixture
async def streaming(start_streaming: Callable[..., Awaitable[Streaming]]) -> Streaming:
    """A server with the options that a node has, but no patience."""
    return await start_streaming(linger_s=2.0, drain_s=2.0)
