"""Images between the stores of two engines of one node, without a registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from cri_dockerd_py.model.image import ImageRecord

#: Is told of bytes that have been dealt with since it was told last.
Note = Callable[[int], None]


class ImageTransfer(ABC):
    """Brings images from one store into another one; each direction of two engines is a transfer of its own."""

    @abstractmethod
    async def copy(self, image: ImageRecord, note: Note) -> str:
        """Bring an image with all its names, verified by digest and ready for use; return the id that it has there.

        What is there already is not brought again, so a copy that was cut off goes on where it was.
        """

    @abstractmethod
    async def room_bytes(self) -> int:
        """Return how much may still be written where the images go."""

    @property
    @abstractmethod
    def copies_content(self) -> bool:
        """Whether bytes are copied; False where both stores share them."""


class ArchiveSource(ABC):
    """A store that gives images away as archives, in the format of `docker save` or of an OCI layout."""

    @abstractmethod
    def open(self, image: ImageRecord) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the archive of one image, which comes chunk by chunk and is never held whole."""


class ArchiveSink(ABC):
    """A store that takes images from archives."""

    @abstractmethod
    async def load(self, image: ImageRecord, archive: AsyncIterator[bytes], note: Note) -> str:
        """Store the image of an archive, verify that it is `image`, give it its names; return its id here."""

    @abstractmethod
    async def room_bytes(self) -> int:
        """Return how much may still be written where the images go."""


class ArchiveTransfer(ImageTransfer):
    """Copies by way of archives."""

    def __init__(self, source: ArchiveSource, sink: ArchiveSink) -> None:
        self._source = source
        self._sink = sink

    async def copy(self, image: ImageRecord, note: Note) -> str:
        """Bring an image."""
        async with self._source.open(image) as archive:
            return await self._sink.load(image, archive, note)

    async def room_bytes(self) -> int:
        """Return how much may still be written where the images go."""
        return await self._sink.room_bytes()

    @property
    def copies_content(self) -> bool:
        """Always."""
        return True
