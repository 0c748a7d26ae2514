"""Blobs of a pull written to containerd's content store, several at a time, each from where an earlier try ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping

from cri_dockerd_py._generated.containerd_v1.content_pb2 import (
    COMMIT,
    STAT,
    WRITE,
    AbortRequest,
    WriteContentRequest,
    WriteContentResponse,
)
from cri_dockerd_py.backends.containerd import gc_labels
from cri_dockerd_py.backends.containerd.api_errors import Locked
from cri_dockerd_py.backends.containerd.channel import Dialogue
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.ingest_files import IngestFile, IngestFiles
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.distribution.media_types import kind_of
from cri_dockerd_py.distribution.sink import BlobSink, BlobWriter, ContentMismatch
from cri_dockerd_py.errors import AlreadyExists, CriError, FailedPrecondition, Unavailable
from cri_dockerd_py.model.image_ref import ImageRef
from cri_dockerd_py.network.settle import settle_call

_LOG = logging.getLogger(__name__)
_NAME_ANNOTATION = "org.opencontainers.image.ref.name"
_MESSAGE_BYTES = 512 << 10
#: What is larger is written to the store's own files, where they can be seen.
_SMALL_BYTES = 1 << 20
#: Field number 6, of bytes.
_DATA_TAG = bytes((WriteContentRequest.DATA_FIELD_NUMBER << 3 | 2,))
#: Writes whose answers have not been waited for; more would only fill memory.
_UNANSWERED_LIMIT = 4
#: Opening reads again what an earlier try has left; committing writes to the disk.
_OPEN_WITHIN_S = 300.0
_WRITE_WITHIN_S = 120.0
_COMMIT_WITHIN_S = 600.0
_ABORT_WITHIN_S = 10.0
_LOCKED_FOR_S = 600.0
_LOCKED_POLL_S = (0.05, 1.0)


class ContentSink(BlobSink):
    """The content store for one pull, which `lease` holds together.

    `locks` are shared by all pulls of this service, so that they wait for each other without asking containerd.
    """

    verifies = True

    def __init__(
        self, client: ContainerdClient, lease: str, locks: KeyedLocks, files: IngestFiles | None = None
    ) -> None:
        self._client = client
        self._content = Content(client)
        self._lease = lease
        self._locks = locks
        self._files = files or IngestFiles(client)

    async def open(self, descriptor: Descriptor, source: ImageRef) -> BlobWriter | None:
        """Return a writer, or None when the blob is there, which the lease holds from now on."""
        await self._locks.acquire(descriptor.digest)
        writer = None
        try:
            writer = await self._open(descriptor, source)
        finally:
            if writer is None:
                self._locks.release(descriptor.digest)
        return writer

    async def read(self, descriptor: Descriptor) -> bytes:
        """Return a document."""
        return await self._content.read(descriptor.digest)

    async def _open(self, descriptor: Descriptor, source: ImageRef) -> BlobWriter | None:
        writer = _ContentWriter(self._client, self._lease, self._locks, self._files, descriptor, source)
        try:
            await writer.begin()
        except AlreadyExists:
            await self._note_source(descriptor.digest, source)
            return None
        return writer

    async def _note_source(self, digest: str, source: ImageRef) -> None:
        info = await self._content.info(digest)
        if info is not None and (labels := gc_labels.of_source(source.domain, source.path, info.labels)):
            await self._content.set_labels(digest, labels)


class _ContentWriter(BlobWriter):
    """One stream of writes; holds the lock of its digest until its end."""

    def __init__(
        self,
        client: ContainerdClient,
        lease: str,
        locks: KeyedLocks,
        files: IngestFiles,
        descriptor: Descriptor,
        source: ImageRef,
    ) -> None:
        self._client = client
        self._lease = lease
        self._locks = locks
        self._files = files
        self._file: IngestFile | None = None
        self._descriptor = descriptor
        self._labels: Mapping[str, str] = gc_labels.of_source(source.domain, source.path, {})
        self._dialogue: Dialogue | None = None
        self._ref = _ref(descriptor)
        self._sent = 0
        self._unanswered = 0
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    async def begin(self) -> None:
        """Open the stream and learn what is there."""
        try:
            await self._open_unlocked()
            if self._descriptor.size - self._sent > _SMALL_BYTES:
                self._file = await self._files.open(self._ref, self._sent)
        except BaseException:
            self._close()
            raise

    async def _open_unlocked(self) -> None:
        """Open the stream as soon as no other client of containerd writes the blob."""
        poll_s, longest_s = _LOCKED_POLL_S
        deadline = asyncio.get_running_loop().time() + _LOCKED_FOR_S
        while True:
            try:
                return await self._open_stream()
            except Locked:
                self._stream.close()
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(poll_s)
            poll_s = min(2 * poll_s, longest_s)

    async def _open_stream(self) -> None:
        self._dialogue = self._client.write_content(lease=self._lease)
        size, digest = self._descriptor.size, self._descriptor.digest
        async with self._in_time(_OPEN_WITHIN_S):
            await self._dialogue.send(WriteContentRequest(action=STAT, ref=self._ref, total=size, expected=digest))
            self._sent = (await self._answer()).offset

    @property
    def offset(self) -> int:
        """Bytes that are there, or are on their way."""
        return self._sent + self._gathered_bytes

    async def write(self, data: bytes) -> None:
        """Gather, and send in messages that are worth their while."""
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= _MESSAGE_BYTES:
            async with self._in_time(_WRITE_WITHIN_S):
                await self._send_gathered()

    async def commit(self) -> None:
        """Send the rest and let containerd verify the whole."""
        digest, size = self._descriptor.digest, self._descriptor.size
        try:
            await self._finish(size, digest)
        except AlreadyExists:
            pass
        except FailedPrecondition as error:
            await self._abort()
            raise ContentMismatch(f"blob {digest} of {size} bytes is not what was fetched: {error}") from error
        finally:
            self._end()

    async def abandon(self, *, keep: bool) -> None:
        """Stop; what was written stays or goes."""
        if self._dialogue is None:
            return
        try:
            self._close()
            if not keep:
                await self._abort()
        finally:
            self._end()

    async def _finish(self, size: int, digest: str) -> None:
        async with self._in_time(_WRITE_WITHIN_S):
            await self._send_gathered()
        if self._file is not None:
            await self._read_back(size)
        request = WriteContentRequest(
            action=COMMIT, ref=self._ref, total=size, expected=digest, offset=self._sent, labels=self._labels
        )
        async with self._in_time(_COMMIT_WITHIN_S):
            await self._stream.send(request)
            self._unanswered += 1
            while self._unanswered:
                await self._answer()
                self._unanswered -= 1

    async def _read_back(self, size: int) -> None:
        """Open the ingest anew, at which containerd reads what was written to the file."""
        async with self._in_time(_WRITE_WITHIN_S):
            await self._stream.end()
        self._close()
        await self._open_unlocked()
        if self._sent != size:
            self._files.distrust()
            raise FailedPrecondition(f"containerd finds {self._sent} bytes of {size}")

    async def _send_gathered(self) -> None:
        if self._file is not None:
            parts, self._gathered = self._gathered, []
            await self._file.append(parts)
            self._sent, self._gathered_bytes = self._sent + self._gathered_bytes, 0
            return
        data = b"".join(self._gathered) if len(self._gathered) != 1 else self._gathered[0]
        self._gathered, self._gathered_bytes = [], 0
        for start in range(0, len(data), 2 * _MESSAGE_BYTES):
            part = data[start : start + 2 * _MESSAGE_BYTES]
            if self._unanswered == _UNANSWERED_LIMIT:
                await self._answer()
                self._unanswered -= 1
            await self._stream.send(_write_request(self._ref, self._sent, part))
            self._unanswered += 1
            self._sent += len(part)

    async def _answer(self) -> WriteContentResponse:
        answer: WriteContentResponse | None = await self._stream.receive()
        if answer is None:
            raise Unavailable(f"containerd ended the writing of blob {self._descriptor.digest} without a word")
        return answer

    @property
    def _stream(self) -> Dialogue:
        if self._dialogue is None:
            raise Unavailable(f"blob {self._descriptor.digest} is no longer being written")
        return self._dialogue

    @contextlib.asynccontextmanager
    async def _in_time(self, within_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(within_s):
                yield
        except TimeoutError:
            blob = self._descriptor.digest
            text = (
                f"containerd at {self._client.endpoint} did not take what was fetched of {blob} within {within_s:g} s"
            )
            raise Unavailable(text) from None

    async def _abort(self) -> None:
        """Forget what was written; what cannot be forgotten now is collected later, with the lease."""
        await settle_call(self._try_abort(), f"abort of ingest {self._ref}")

    async def _try_abort(self) -> None:
        try:
            await self._client.call(self._client.content.Abort, AbortRequest(ref=self._ref), within_s=_ABORT_WITHIN_S)
        except CriError as error:
            _LOG.debug("ingest %s was not aborted: %s", self._ref, error)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._dialogue is not None:
            self._dialogue.close()

    def _end(self) -> None:
        if self._dialogue is not None:
            self._close()
            self._dialogue = None
            self._locks.release(self._descriptor.digest)


def _write_request(ref: str, offset: int, data: bytes) -> bytes:
    """Return a serialized request; protobuf itself would copy the data twice, which costs more than all else here."""
    head = WriteContentRequest(action=WRITE, ref=ref, offset=offset).SerializeToString()
    return b"".join((head, _DATA_TAG, _varint(len(data)), data))


def _varint(number: int) -> bytes:
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


def _ref(descriptor: Descriptor) -> str:
    """Return the name of an ingest as all clients of containerd choose it, so that they share what they fetch."""
    kind = kind_of(descriptor.media_type).value
    name = descriptor.annotations.get(_NAME_ANNOTATION, "")
    return f"{kind}-{name}@{descriptor.digest}" if name else f"{kind}-{descriptor.digest}"
