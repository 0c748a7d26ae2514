"""Commands in containers whose shim hangs or is gone, and the event stream meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import Connected, Disconnected, ExecSpec, ProcessExited
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.execs import Execs
from cri_dockerd_py.backends.containerd.tasks import TaskInfo, Tasks, TaskState
from cri_dockerd_py.errors import Unavailable
from tests.backends.conftest import opened
from tests.behaviour.client import host_pids, stopped_shim
from tests.engines import ContainerdNode


@dataclass
class Relay:
    """A socket before containerd's, whose connections can be cut."""

    path: Path
    behind: Path
    jobs: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what comes both ways until one side ends."""
        away_reader, away_writer = await asyncio.open_unix_connection(str(self.behind))
        ways = [asyncio.ensure_future(_carry(*way)) for way in ((reader, away_writer), (away_reader, writer))]
        self.jobs.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for side in (writer, away_writer):
            side.close()
        self.jobs.difference_update(ways)
        for way in ways:
            way.cancel()

    def cut(self) -> None:
        """End all connections."""
        for job in self.jobs:
            job.cancel()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def relay(node: ContainerdNode, directory: Path) -> AsyncIterator[Relay]:
    """Serve a relay to a containerd."""
    relay = Relay(directory / "r.sock", node.socket)
    server = await asyncio.start_unix_server(relay.serve, str(relay.path))
    try:
        yield relay
    finally:
        server.close()
        relay.cut()


@pytest.mark.behaviour("EXS-08", "LCT-08")
async def test_an_exec_whose_shim_hangs_does_not_hold_up_events(
    containerd_node: ContainerdNode, tmp_path: Path
) -> None:
    async with (
        relay(containerd_node, tmp_path) as relayed,
        opened(containerd_node, tmp_path, endpoint=f"unix://{relayed.path}") as backend,
    ):
        hangs = await backend.start(await backend.run())
        other = await backend.start(await backend.run())
        process = await backend.engine.processes.exec(hangs, ExecSpec(("sleep", "7651")))
        with stopped_shim(hangs):
            backend.seen.clear()
            relayed.cut()
            await backend.event(lambda event: isinstance(event, Connected))
            os.kill(host_pids(other)[0], signal.SIGKILL)
            await backend.event(lambda event: isinstance(event, ProcessExited) and event.id == other, 4)
            assert len([event for event in backend.seen if isinstance(event, Disconnected)]) == 1
        await process.kill()
        async with asyncio.timeout(10):
            assert await process.wait() == 137
        await process.close()


class _Hanging(Tasks):
    """A containerd that says nothing of processes at first."""

    asked = 0

    async def exec_state(self, container_id: str, exec_id: str) -> TaskInfo | None:
        """Hang, fail, not know, then tell."""
        self.asked += 1
        match self.asked:
            case 1:
                await asyncio.Event().wait()
            case 2:
                raise Unavailable("the shim of the container does not answer")
            case 3:
                return TaskInfo(container_id, TaskState.UNKNOWN, 0)
        return TaskInfo(container_id, TaskState.STOPPED, 0, exit_code=7)


async def test_a_shim_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ASK_WITHIN_S", "_ASK_AGAIN_S"):
        monkeypatch.setattr(f"cri_dockerd_py.backends.containerd.execs.{name}", 0.05)
    tasks = _Hanging(ContainerdClient("unix:///nowhere"))
    execs = Execs(tasks)
    ended = execs.expect("container", "exec")
    async with asyncio.timeout(10):
        await execs.reconcile()
    assert ended.result() == 7
    assert tasks.asked == 4
