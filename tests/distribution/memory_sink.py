"""A content store in memory: the sink's contract at its strictest, and what was called."""

from __future__ import annotations

import asyncio

from cri_dockerd_py.distribution.descriptor import Descriptor, matches
from cri_dockerd_py.distribution.sink import BlobSink, BlobWriter, ContentMismatch
from cri_dockerd_py.model.image_ref import ImageRef


class MemorySink(BlobSink):
    """`blobs` are complete, `parts` wait to be resumed; writes wait for `room`; three writers are a `crowd`."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.opened: list[str] = []
        self.open_writers = 0
        self.most_writers = 0
        self.crowd = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()

    async def open(self, descriptor: Descriptor, source: ImageRef) -> BlobWriter | None:
        if descriptor.digest in self.blobs:
            return None
        self.opened.append(descriptor.digest)
        return _Writer(self, descriptor)

    async def read(self, descriptor: Descriptor) -> bytes:
        return self.blobs[descriptor.digest]


class _Writer(BlobWriter):
    def __init__(self, sink: MemorySink, descriptor: Descriptor) -> None:
        self._sink = sink
        self._descriptor = descriptor
        self._content = bytearray(sink.parts.pop(descriptor.digest, b""))
        self._ended = False
        sink.open_writers += 1
        sink.most_writers = max(sink.most_writers, sink.open_writers)
        if sink.open_writers >= 3:
            sink.crowd.set()

    @property
    def offset(self) -> int:
        return len(self._content)

    async def write(self, data: bytes) -> None:
        assert data
        assert not self._ended
        await self._sink.room.wait()
        self._content += data

    async def commit(self) -> None:
        assert not self._ended
        content = bytes(self._content)
        if len(content) != self._descriptor.size or not matches(content, self._descriptor.digest):
            raise ContentMismatch(f"{len(content)} bytes are not {self._descriptor}")
        self._end()
        self._sink.blobs[self._descriptor.digest] = content

    async def abandon(self, *, keep: bool) -> None:
        assert not self._ended
        self._end()
        if keep and self._content:
            self._sink.parts[self._descriptor.digest] = bytes(self._content)

    def _end(self) -> None:
        self._ended = True
        self._sink.open_writers -= 1
