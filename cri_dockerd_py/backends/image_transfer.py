"""Images between the stores of two engines of one node, without a registry."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from cri_dockerd_py.errors import Unimplemented
from cri_dockerd_py.model.image import ImageRecord

_LOG = logging.getLogger(__name__)
#: Is told of bytes that have been dealt with since it was told last.
Note = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer as a store has it: `digest` and `size` are those of its bytes, `diff_id` that of its plain tar.

    `read` gives the bytes from an offset on; close it when you leave before its end.
    """

    media_type: str
    digest: str
    size: int
    diff_id: str
    read: Callable[[int], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class ImageBlobs:
    """All of an image: the exact bytes of its configuration, and its layers, bottom first."""

    config: bytes
    layers: tuple[LayerBlob, ...]


class ImageSource(ABC):
    """A store that images are read from."""

    @abstractmethod
    async def blobs(self, image: ImageRecord) -> ImageBlobs:
        """Return what an image is made of; NotFound when it is gone, Unimplemented where only archives can be had."""

    @abstractmethod
    def archive(self, image: ImageRecord) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open an image as an archive, as `docker save` writes it, chunk by chunk; Unimplemented where it is not."""


class ImageSink(ABC):
    """A store that images are written to. What it takes is verified by digest, and usable when it returns."""

    @abstractmethod
    async def store(self, image: ImageRecord, blobs: ImageBlobs, note: Note) -> str:
        """Store an image with all names of `image`, and return its id here; what is here already is not read."""

    @abstractmethod
    async def store_archive(self, image: ImageRecord, archive: AsyncIterator[bytes], note: Note) -> str:
        """Store an image from an archive."""

    @abstractmethod
    async def room_bytes(self) -> int:
        """Return how much may still be written where the images go."""


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

    @abstractmethod
    async def copies_content(self) -> bool:
        """Whether bytes are copied; False where both stores share them."""


class CopyTransfer(ImageTransfer):
    """Copies bytes: blob by blob where the source allows it, else by way of an archive."""

    def __init__(self, source: ImageSource, sink: ImageSink) -> None:
        self._source = source
        self._sink = sink

    async def copy(self, image: ImageRecord, note: Note) -> str:
        """Bring an image."""
        try:
            return await self._sink.store(image, await self._source.blobs(image), note)
        except Unimplemented as error:
            _LOG.info("image %s is taken from an archive: %s", image.id, error)
        async with self._source.archive(image) as archive:
            return await self._sink.store_archive(image, archive, note)

    async def room_bytes(self) -> int:
        """Return how much may still be written where the images go."""
        return await self._sink.room_bytes()

    async def copies_content(self) -> bool:
        """Always."""
        return True
