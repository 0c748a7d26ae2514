"""Where a SPDY session's bytes go: a connection itself, or WebSocket messages inside one."""

from __future__ import annotations

import asyncio
import enum
from typing import Protocol


class Link(Protocol):
    """The sending side of a byte stream."""

    async def send(self, data: bytes) -> None:
        """Write, after waiting for the peer to take what was written before."""

    def send_now(self, data: bytes) -> None:
        """Write a few bytes of the protocol itself without waiting."""

    def hold_reading(self) -> None:
        """Read nothing more until as many releases."""

    def release_reading(self) -> None:
        """Undo one hold."""

    async def close(self, last: bytes = b"") -> None:
        """Write the last bytes, and close when the peer has taken them."""

    async def drop(self) -> None:
        """Close without a word."""


class Ending(enum.Enum):
    """Why a session ends before its process does."""

    CLIENT_GONE = "the client is gone"
    VIOLATION = "the client broke the protocol"
    IDLE = "the session was idle for too long"
    SHUTDOWN = "the streaming server is shutting down"


class SessionEnd:
    """Tells a session once why it has to end."""

    def __init__(self) -> None:
        self._reason: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    @property
    def reason(self) -> Ending | None:
        """Why the session has to end, None while it need not."""
        return self._reason.result() if self._reason.done() else None

    def give(self, reason: Ending) -> None:
        """End the session for this reason, unless it has another one already."""
        if not self._reason.done():
            self._reason.set_result(reason)

    @property
    def future(self) -> asyncio.Future[Ending]:
        """Is done when the session has to end."""
        return self._reason
