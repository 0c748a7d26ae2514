"""Both directions of FIFOs for the event loop: read and written when they are ready, never blocking."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Mapping

from cri_dockerd_py.logs.source import widen

_CHUNK_BYTES = 256 << 10


class FifoReaders:
    """Reads several FIFOs; it has to exist before the shim opens them.

    A read of nothing is the end only once a writer has come and gone, which the kernel tells by a hang-up.
    """

    def __init__(self, paths: Mapping[int, str]) -> None:
        self._fds: dict[int, int] = {}
        try:
            for stream, path in paths.items():
                self._fds[stream] = fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                widen(fd)
        except BaseException:
            self.close()
            raise

    async def read(self) -> tuple[int, bytes] | None:
        """Return (stream, chunk) of whichever has something, None when all have come to their end."""
        while self._fds:
            for stream, fd in list(self._fds.items()):
                data = self._take(stream, fd)
                if data:
                    # The others are to be looked at first the next time.
                    self._fds[stream] = self._fds.pop(stream)
                    return stream, data
            if self._fds:
                await self._ready()
        return None

    def _take(self, stream: int, fd: int) -> bytes:
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data and _hung_up(fd):
            os.close(self._fds.pop(stream))
        return data

    async def _ready(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        watched = list(self._fds.values())
        for fd in watched:
            loop.add_reader(fd, ready.set)
        try:
            await ready.wait()
        finally:
            for fd in watched:
                if fd in self._fds.values():
                    loop.remove_reader(fd)

    def close(self) -> None:
        """Stop reading; may be called twice."""
        for fd in self._fds.values():
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        self._fds.clear()


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


class FifoWriter:
    """Writes a FIFO; it is opened for both directions, so that it neither waits for the shim nor fails without it."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def is_open(self) -> bool:
        """Whether more can be written."""
        return self._fd >= 0

    async def write(self, data: bytes, gone: asyncio.Future[int]) -> None:
        """Write and wait for room; what nobody can read any more, because `gone` is done, is dropped."""
        view = memoryview(data)
        while view and self.is_open and not gone.done():
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._room(gone)

    async def _room(self, gone: asyncio.Future[int]) -> None:
        loop = asyncio.get_running_loop()
        room = asyncio.Event()
        fd = self._fd
        loop.add_writer(fd, room.set)
        has_room = asyncio.ensure_future(room.wait())
        try:
            await asyncio.wait((has_room, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            has_room.cancel()
            if self._fd == fd:
                loop.remove_writer(fd)

    def close(self) -> None:
        """Let go of the FIFO; what was written stays in it; may be called twice."""
        if self.is_open:
            asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
