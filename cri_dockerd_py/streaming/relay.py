"""Joins a client's stream to a connected socket, each direction with an end of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from cri_dockerd_py.streaming import jobs
from cri_dockerd_py.streaming.inbox import Inbox

_READ_BYTES = 64 * 1024

#: Bytes from the client that are kept for a target which does not read them yet.
INBOX_BYTES = 2 * 1024 * 1024


class TargetReset(Exception):
    """The target dropped the connection."""


class Relay:
    """One forwarded connection; owns the target's socket."""

    def __init__(
        self,
        target: socket.socket,
        inbox: Inbox,
        send: Callable[[bytes], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        half_closed_s: float,
    ) -> None:
        self._target = target
        self._inbox = inbox
        self._send = send
        self._end = end
        self._half_closed_s = half_closed_s
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()

    async def run(self, *, until_target_ends: bool) -> None:
        """Copy both ways until both have ended; raises TargetReset and ClientGone."""
        up = jobs.start(self._copy_up(), "to the target")
        down = jobs.start(self._copy_down(), "from the target")
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if down.done():
                down.result()
            if until_target_ends:
                await asyncio.wait((down,))
            else:
                await self._wait_half_closed({job for job in (up, down) if not job.done()})
            if down.done():
                down.result()
        finally:
            try:
                await jobs.cancel((up, down))
            finally:
                self._inbox.discard()
                self._target.close()

    async def _wait_half_closed(self, pending: set[asyncio.Task[None]]) -> None:
        """Wait for the other direction while something moves in it; the time before this end does not count."""
        self._moved_at = self._loop.time()
        while pending:
            left_s = self._moved_at + self._half_closed_s - self._loop.time()
            if left_s <= 0:
                return
            _, pending = await asyncio.wait(pending, timeout=left_s)

    async def _copy_up(self) -> None:
        turns = jobs.Turns()
        try:
            while (data := await self._inbox.take()) is not None:
                await self._loop.sock_sendall(self._target, data)
                self._moved_at = self._loop.time()
                await turns.count(len(data))
            self._target.shutdown(socket.SHUT_WR)
        except OSError:
            # The target reads no more; what it still says is worth hearing.
            self._inbox.discard()

    async def _copy_down(self) -> None:
        turns = jobs.Turns()
        while data := await self._receive():
            await self._send(data)
            self._moved_at = self._loop.time()
            await turns.count(len(data))
        await self._end()

    async def _receive(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._target, _READ_BYTES)
        except OSError as cause:
            raise TargetReset(str(cause)) from cause
