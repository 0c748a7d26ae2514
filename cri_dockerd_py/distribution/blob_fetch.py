"""Blobs from a repository into a sink, each one verified on the way."""

from __future__ import annotations

from contextlib import aclosing

from cri_dockerd_py.distribution.blob import BlobReader
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.distribution.digest_check import DigestCheck
from cri_dockerd_py.distribution.pulled_image import OnFetched
from cri_dockerd_py.distribution.repository import Repository
from cri_dockerd_py.distribution.sink import BlobSink, BlobWriter, ContentMismatch
from cri_dockerd_py.distribution.turns import Turns


class BlobFetch:
    """Fetches what the sink does not have, at most `max_parallel` blobs at a time."""

    def __init__(self, repository: Repository, sink: BlobSink, on_fetched: OnFetched, max_parallel: int) -> None:
        self.reference = repository.reference
        self._repository = repository
        self._sink = sink
        self._on_fetched = on_fetched
        self._turns = Turns(max_parallel)

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
                    self._on_fetched(len(content))
                    await writer.write(content)
                await writer.commit()
            except BaseException:
                await writer.abandon(keep=False)
                raise
        return content or await self._sink.read(descriptor)

    async def blob(self, descriptor: Descriptor) -> None:
        """Return when a blob is in the sink. What turns out wrong is fetched once more, from another host if it can be.

        A transfer that fails or is cancelled leaves what has come for the next try.
        """
        for last in (False, True):
            if await self._try_blob(descriptor, last):
                break

    async def _try_blob(self, descriptor: Descriptor, last: bool) -> bool:
        writer, hosts = None, set[str]()
        try:
            async with self._turns.slots:
                writer = await self._sink.open(descriptor, self.reference)
                if writer is None:
                    return True
                async with self._turns.turn():
                    await self._copy(descriptor, writer, hosts)
            await self._commit(descriptor, writer, hosts)
        except ContentMismatch:
            if writer is not None:
                await writer.abandon(keep=False)
            for host in hosts:
                self._repository.doubt(host)
            if last:
                raise
            return False
        except BaseException:
            if writer is not None:
                await writer.abandon(keep=True)
            raise
        return True

    async def _copy(self, descriptor: Descriptor, writer: BlobWriter, hosts: set[str]) -> None:
        """Write what is missing, and verify it where the sink leaves that to others."""
        check = None if writer.offset or self._sink.verifies else DigestCheck(descriptor.digest)
        reader = BlobReader(self._repository, descriptor, writer.offset, hosts)
        async with aclosing(reader.pieces()) as pieces:
            async for piece in pieces:
                self._on_fetched(len(piece))
                if check is not None:
                    await check.add(piece)
                await writer.write(piece)
        if check is not None and not await check.passes():
            raise self._mismatch(descriptor, hosts)

    async def _commit(self, descriptor: Descriptor, writer: BlobWriter, hosts: set[str]) -> None:
        try:
            await writer.commit()
        except ContentMismatch as error:
            raise self._mismatch(descriptor, hosts) from error

    def _mismatch(self, descriptor: Descriptor, hosts: set[str]) -> ContentMismatch:
        sources = ", ".join(sorted(hosts)) or "an earlier pull"
        return ContentMismatch(f"{self.reference}: the content that {sources} sent is not {descriptor.digest}")
