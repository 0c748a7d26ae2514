"""Where the blobs of a pull go: the interface that an engine's content store implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.image_ref import ImageRef


class ContentMismatch(Unknown):
    """What was written is not what its descriptor promises: another digest or another size."""


class BlobWriter(ABC):
    """One blob that is being written, from front to back, by one caller.

    Ends with `commit`, or with `abandon`, also after a `commit` that failed.
    """

    @property
    @abstractmethod
    def offset(self) -> int:
        """Bytes that are present: at first those of an earlier try, then also what was written since.

        It may equal the blob's size at once, when the store has the content but not yet under this owner: then
        `commit` follows with no `write`.
        """

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Append up to some MiB at `offset`; return when more can be taken, so that a slow store slows the fetch."""

    @abstractmethod
    async def commit(self) -> None:
        """Verify digest and size, and make the blob readable; that it came from elsewhere meanwhile is success.

        Raises ContentMismatch, after which nothing of it is left.
        """

    @abstractmethod
    async def abandon(self, *, keep: bool) -> None:
        """Stop. With `keep`, what was written stays for a later try; without, it is dropped. Never raises."""


class BlobSink(ABC):
    """A content store as a pull sees it. Several blobs are written at a time; each call may be cancelled.

    `verifies` is whether a commit computes the digest of what the store has in fact, so that nobody else need do it.
    """

    verifies: ClassVar[bool] = False

    @abstractmethod
    async def open(self, descriptor: Descriptor, source: ImageRef) -> BlobWriter | None:
        """Return a writer for the blob, or None when its content is there, which from now on is held for this pull.

        While somebody else writes the same blob it waits, and then returns None if that came to a good end. `source` is
        the reference that is pulled; its `domain` and `path` say where the content comes from.
        """

    @abstractmethod
    async def read(self, descriptor: Descriptor) -> bytes:
        """Return the whole content of a small blob that is there: an index, a manifest or a config."""
