"""Blobs from a repository into a sink, each one verified on the way."""

from __future__ import annotations

from contextlib import aclosing

from cri_dockerd_py.distribution.blob import BlobReader
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.distribution.digest_check import DigestCheck
from cri_dockerd_py.distribution.pulled_image import Progress
from cri_dockerd_py.distribution.repository import Repository
from cri_dockerd_py.distribution.sink import BlobSink, BlobWriter, ContentMismatch

_TRIES = 2


class BlobFetch:
    """Fetches what the sink does not have."""

    def __init__(self, repository: Repository, sink: BlobSink, on_progress: Progress) -> None:
        self.reference = repository.reference
        self._repository = repository
        self._sink = sink
        self._on_progress = on_progress

    async def document(self, descriptor: Descriptor) -> bytes:
        """Return an index, a manifest or a config, which is in the sink afterwards."""
        writer = await self._sink.open(descriptor, self.reference)
        if writer is not None and 0 < writer.offset < descriptor.size:
            await writer.abandon(keep=False)  # resuming is not worth it
            writer = await self._sink.open(descriptor, self.reference)
        content = b""
        if writer is not None:
            try:
                if writer.offset < descriptor.size:
                    content = await self._repository.document(descriptor)
                    await writer.write(content)
                await writer.commit()
            except BaseException:
                await writer.abandon(keep=False)
                raise
        self._on_progress(descriptor, descriptor.size, descriptor.size)
        return content or await self._sink.read(descriptor)

    async def blob(self, descriptor: Descriptor) -> None:
        """Return when a blob is in the sink. What turns out wrong is fetched once more, from another host if it can be.

        A transfer that fails or is cancelled leaves what has come for the next try.
        """
        for tries in range(1, _TRIES + 1):
            writer = await self._sink.open(descriptor, self.reference)
            if writer is None:
                break
            reader = BlobReader(self._repository, descriptor, writer.offset)
            whole = writer.offset == 0
            try:
                await self._copy(descriptor, reader, writer, verify=whole)
                await writer.commit()
                break
            except ContentMismatch:
                await writer.abandon(keep=False)
                for host in reader.hosts:
                    self._repository.doubt(host)
                if tries == _TRIES:
                    raise
            except BaseException:
                await writer.abandon(keep=True)
                raise
        self._on_progress(descriptor, descriptor.size, descriptor.size)

    async def _copy(self, descriptor: Descriptor, reader: BlobReader, writer: BlobWriter, *, verify: bool) -> None:
        """Write what is missing. Only a whole blob can be verified here; the writer verifies every one."""
        check = DigestCheck(descriptor.digest) if verify else None
        async with aclosing(reader.pieces()) as pieces:
            async for piece in pieces:
                if check is not None:
                    await check.add(piece)
                await writer.write(piece)
                self._on_progress(descriptor, writer.offset, descriptor.size)
        if check is not None and not await check.passes():
            sources = ", ".join(sorted(reader.hosts))
            raise ContentMismatch(f"{self.reference}: the content that {sources} sends is not {descriptor.digest}")
