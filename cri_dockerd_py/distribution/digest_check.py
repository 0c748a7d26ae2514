"""A digest computed while its content passes by, in a thread: the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import hashlib

#: What is handed to a thread at once, so that the handing over costs little.
_ENOUGH_BYTES = 1 << 20


class DigestCheck:
    """Compares content, added piece by piece, with its digest."""

    def __init__(self, digest: str) -> None:
        algorithm, _, self._expected = digest.partition(":")
        self._hash = hashlib.new(algorithm)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._job: asyncio.Future[None] | None = None

    async def add(self, piece: bytes) -> None:
        """Take a piece; waits only when the thread is more than one portion behind."""
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= _ENOUGH_BYTES:
            await self._start()

    async def passes(self) -> bool:
        """Whether what was added is the content of the digest."""
        await self._start()
        await self._settle()
        return self._hash.hexdigest() == self._expected

    async def _start(self) -> None:
        await self._settle()
        portion, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._job = asyncio.get_running_loop().run_in_executor(None, self._update, portion)

    async def _settle(self) -> None:
        if self._job is not None:
            await self._job

    def _update(self, portion: list[bytes]) -> None:
        for piece in portion:
            self._hash.update(piece)
