"""What an exec or attach session sees of its client, whichever transport the client speaks."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from cri_dockerd_py.streaming.inbox import Inbox
from cri_dockerd_py.streaming.link import Ending, SessionEnd
from cri_dockerd_py.streaming.protocol.remote_command import Outcome, Size

#: Bytes of stdin that are kept for a process which does not read them yet.
STDIN_LIMIT_BYTES = 1024 * 1024

#: Sizes that are kept for a process which is slow to take them; older ones are dropped.
_SIZE_LIMIT = 64


class SizeQueue:
    """Sizes of the client's terminal in order; clients send two to force a redraw, so none is skipped lightly."""

    def __init__(self) -> None:
        self._sizes: deque[Size] = deque(maxlen=_SIZE_LIMIT)
        self._arrived = asyncio.Event()

    def put(self, sizes: list[Size]) -> None:
        """Keep sizes for the process."""
        if sizes:
            self._sizes += sizes
            self._arrived.set()

    async def take(self) -> Size:
        """Return the next size."""
        while not self._sizes:
            self._arrived.clear()
            await self._arrived.wait()
        return self._sizes.popleft()


class CommandWire(Protocol):
    """The client's side of an exec or attach session."""

    end: SessionEnd
    stdin: Inbox
    sizes: SizeQueue

    async def opened(self) -> None:
        """Return when the client has opened all streams."""

    @property
    def missing(self) -> str:
        """The streams that the client has not opened, for people."""

    async def write(self, stream: int, data: bytes) -> None:
        """Send output (1 stdout, 2 stderr) and wait for room; raises ClientGone."""

    async def finish(self, outcome: Outcome) -> None:
        """Tell how it ended, behind all output, and close."""

    async def drop(self) -> None:
        """Close without a word."""


class EndedBy:
    """The part of a connection's handler that is the same for all sessions."""

    def __init__(self) -> None:
        self.end = SessionEnd()

    def lost(self) -> None:
        """The client says nothing more."""
        self.end.give(Ending.CLIENT_GONE)

    def idle(self) -> None:
        """Nothing has moved for the idle timeout."""
        self.end.give(Ending.IDLE)
