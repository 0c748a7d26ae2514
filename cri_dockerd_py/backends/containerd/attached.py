"""A container's own process, joined by a client."""

from __future__ import annotations

import asyncio
import contextlib

from cri_dockerd_py.backends.base import ProcessIO
from cri_dockerd_py.backends.containerd.exits import Exits
from cri_dockerd_py.backends.containerd.fifo_streams import FifoWriter
from cri_dockerd_py.backends.containerd.objects import Held
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import Tasks
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.logs.tee import OutputTee


class AttachedProcess(ProcessIO):
    """Reads beside the log, writes beside other clients."""

    def __init__(
        self, held: Held, tasks: Tasks, exits: Exits, statuses: Statuses, tee: OutputTee, stdin: FifoWriter | None
    ) -> None:
        self._held = held
        self._tasks = tasks
        self._exits = exits
        self._statuses = statuses
        self._tee = tee
        self._stdin = stdin
        self._gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next chunk."""
        piece = await self._tee.read()
        if piece is None:
            self._end()
        return piece

    async def write_stdin(self, data: bytes) -> None:
        """Write and wait for room."""
        if self._stdin is not None:
            await self._stdin.write(data, self._gone)

    async def close_stdin(self) -> None:
        """Let go of the input, and let it end where the container is to have one client's only."""
        if self._stdin is not None and self._stdin.is_open:
            self._stdin.close()
            if self._held.stdin_once and not self._held.tty:
                await self._tasks.close_stdin(self._held.id)

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the container's terminal; one that is gone has none."""
        with contextlib.suppress(CriError):
            await self._tasks.resize(self._held.id, width, height)

    async def wait(self) -> int:
        """Return the container's exit code, or 0 when the client left before its end."""
        await asyncio.shield(self._gone)
        await self._exits.settled(self._held.id)
        return self._statuses.known(self._held).exit_code

    async def kill(self) -> None:
        """A container's own process is never killed by a client that leaves."""

    async def close(self) -> None:
        """Let go of the streams."""
        self._tee.close()
        if self._stdin is not None:
            self._stdin.close()
        self._end()

    def _end(self) -> None:
        if not self._gone.done():
            self._gone.set_result(0)
