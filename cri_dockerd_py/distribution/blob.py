"""A blob's bytes, over as many connections as that takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.distribution.repository import Body, Repository
from cri_dockerd_py.distribution.rules.answers import Failure, Patience, error_for
from cri_dockerd_py.distribution.sink import ContentMismatch
from cri_dockerd_py.distribution.transport import Unreachable


class BlobReader:
    """Reads one blob from `offset` to its end; puts the hosts that send some of it into `hosts`."""

    def __init__(self, repository: Repository, descriptor: Descriptor, offset: int, hosts: set[str]) -> None:
        self._repository = repository
        self._descriptor = descriptor
        self._at = offset
        self._hosts = hosts

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield what is left, exactly as many bytes as the descriptor promises; close the iterator when done early.

        A connection that breaks is made anew where it broke. Raises ContentMismatch at the first byte too many.
        """
        patience = Patience()
        while self._at < self._descriptor.size:
            body = await self._repository.body(self._descriptor, self._at)
            self._hosts.add(body.host)
            try:
                async for piece in self._pieces_of(body):
                    patience.moved(len(piece))
                    yield piece
            except Unreachable as error:
                wait_s = patience.failed()
                if wait_s is None:
                    failure = Failure(body.host, 0, f"{error}, again and again")
                    raise error_for(f"{self._repository.reference}: {self._descriptor.digest}", [failure]) from error
                await asyncio.sleep(wait_s)
            finally:
                body.answer.close()

    async def _pieces_of(self, body: Body) -> AsyncGenerator[bytes, None]:
        skip = body.skip
        while piece := await body.answer.piece():
            useful = piece[skip:] if skip else piece
            skip -= len(piece) - len(useful)
            if self._at + len(useful) > self._descriptor.size:
                raise self._too_long(body)
            if useful:
                self._at += len(useful)
                yield useful
        if self._at < self._descriptor.size:
            raise Unreachable("the answer ended early")

    def _too_long(self, body: Body) -> ContentMismatch:
        size = self._descriptor.size
        return ContentMismatch(f"{body.host} sends more than the {size} bytes of {self._descriptor.digest}")
