"""Output handed to attached clients beside the log: bounded, so that a slow client slows its own container only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

STDOUT, STDERR = 1, 2
BUFFER_BYTES = 256 << 10
_LAST_BYTES = 4 << 20  # both pipes' content, which may come in one piece when the process has ended


class OutputTee:
    """One client's view of a container's output, from the moment of subscription on.

    `read` and `close` belong to the event loop that subscribed, the rest to the pump thread. Once `BUFFER_BYTES` wait
    here, the container's pipes are read no further (neither for the log nor for other clients) until half is taken.
    """

    def __init__(self, streams: Iterable[int], resume: Callable[[], None], leave: Callable[[OutputTee], None]) -> None:
        self._streams = frozenset(streams)
        self._loop = asyncio.get_running_loop()
        self._resume = resume
        self._leave = leave
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self._closed = False
        self._limit_bytes = BUFFER_BYTES
        self._given_bytes = 0  # written by the pump thread
        self._taken_bytes = 0  # written by the loop
        self._holding = False

    async def read(self) -> tuple[int, bytes] | None:
        """Return (1 for stdout or 2 for stderr, chunk), or None when the log is finished and all has been read.

        Cancelling it loses nothing.
        """
        while not self._chunks:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        stream, data = self._chunks.popleft()
        self._taken_bytes += len(data)
        if self._holding and self._waiting_bytes * 2 <= BUFFER_BYTES:
            self._holding = False
            self._resume()
        return stream, data

    def close(self) -> None:
        """Take nothing more; whoever reads gets None, and the container goes on; may be called twice."""
        self._chunks.clear()
        self._closed = True
        if not self._ended:
            self._end()
            self._leave(self)

    @property
    def _waiting_bytes(self) -> int:
        return self._given_bytes - self._taken_bytes

    def blocks(self) -> bool:
        """Whether nothing more may be read for now; if so, `resume` is called later."""
        if self._closed or self._waiting_bytes < self._limit_bytes:
            return False
        self._holding = True
        return not self._closed and self._waiting_bytes >= self._limit_bytes  # the reader may not have seen the flag

    def give(self, stream: int, data: bytes) -> None:
        """Add a chunk."""
        if stream in self._streams and not self._closed:
            self._given_bytes += len(data)
            self._tell(lambda: self._add(stream, data))

    def end_soon(self) -> None:
        """The process has ended: let what is left in the pipes through."""
        self._limit_bytes = _LAST_BYTES

    def end(self) -> None:
        """Nothing more will come."""
        self._tell(self._end)

    def _tell(self, news: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(news)
        except RuntimeError:  # the loop was closed, and the reader with it
            self._closed = True

    def _add(self, stream: int, data: bytes) -> None:
        if not self._closed:
            self._chunks.append((stream, data))
            self._news.set()

    def _end(self) -> None:
        self._ended = True
        self._news.set()


class Tees:
    """All clients of one container (pump thread)."""

    def __init__(self) -> None:
        self._tees: list[OutputTee] = []

    def __bool__(self) -> bool:
        return bool(self._tees)

    def add(self, tee: OutputTee) -> None:
        """Give it what comes from now on."""
        self._tees.append(tee)

    def remove(self, tee: OutputTee) -> None:
        """Give it nothing more."""
        if tee in self._tees:
            self._tees.remove(tee)

    def block(self) -> bool:
        """Whether one of them cannot take more now."""
        return any(tee.blocks() for tee in self._tees)

    def give(self, stream: int, data: bytes) -> None:
        """Hand a chunk to all."""
        for tee in self._tees:
            tee.give(stream, data)

    def end_soon(self) -> None:
        """The process has ended."""
        for tee in self._tees:
            tee.end_soon()

    def end(self) -> None:
        """Nothing more comes."""
        for tee in self._tees:
            tee.end()
        self._tees.clear()
