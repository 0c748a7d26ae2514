"""Bytes that a client has sent and nobody has taken yet, limited by no longer reading from the client."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

#: What a chunk costs besides its bytes, so that many tiny ones count for what they are.
_CHUNK_COST_BYTES = 64

#: What is taken at once.
_TAKE_BYTES = 128 * 1024


class ReadingSide(Protocol):
    """A connection whose reading can be held."""

    def hold_reading(self) -> None:
        """Read nothing more until as many releases."""

    def release_reading(self) -> None:
        """Undo one hold."""


class ReadGate:
    """Holds a connection's reading while its inboxes together are too full, or one of them alone is."""

    def __init__(self, connection: ReadingSide, total_limit_bytes: int) -> None:
        self._connection = connection
        self._limit_bytes = total_limit_bytes
        self._kept_bytes = 0
        self._holds = False

    def change(self, kept_bytes: int) -> None:
        """Count bytes in (positive) or out (negative)."""
        self._kept_bytes += kept_bytes
        if not self._holds and self._kept_bytes > self._limit_bytes:
            self._holds = True
            self._connection.hold_reading()
        elif self._holds and self._kept_bytes <= self._limit_bytes // 2:
            self._holds = False
            self._connection.release_reading()

    def inbox(self, limit_bytes: int) -> Inbox:
        """Return a new inbox behind this gate."""
        return Inbox(self, ReadGate(self._connection, limit_bytes))


class Inbox:
    """A stream from the client, with one taker."""

    def __init__(self, shared: ReadGate, own: ReadGate) -> None:
        self._gates = (shared, own)
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._discards = False
        self._arrived = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Keep bytes for the taker."""
        if self._ended or self._discards:
            return
        self._chunks.append(data)
        self._count(len(data) + _CHUNK_COST_BYTES)
        self._arrived.set()

    def end(self) -> None:
        """Note that nothing more will come; what is there can still be taken."""
        self._ended = True
        self._arrived.set()

    def discard(self) -> None:
        """Drop what is there and what will come: there is no taker any more."""
        self._discards = True
        self._arrived.set()
        while self._chunks:
            self._pop()

    async def take(self) -> bytes | None:
        """Return the next bytes, None at the end."""
        while not self._chunks:
            if self._ended or self._discards:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        if len(self._chunks) == 1:
            return self._pop()
        taken = [self._pop()]
        size = len(taken[0])
        while self._chunks and size + len(self._chunks[0]) <= _TAKE_BYTES:
            taken.append(self._pop())
            size += len(taken[-1])
        return b"".join(taken)

    def _pop(self) -> bytes:
        chunk = self._chunks.popleft()
        self._count(-len(chunk) - _CHUNK_COST_BYTES)
        return chunk

    def _count(self, change_bytes: int) -> None:
        for gate in self._gates:
            gate.change(change_bytes)
