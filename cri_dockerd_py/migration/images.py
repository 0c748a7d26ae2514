"""Brings to the target what pods will need there, before any of them moves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from cri_dockerd_py.backends.image_transfer import ImageTransfer
from cri_dockerd_py.errors import CriError, FailedPrecondition, ResourceExhausted, Unimplemented, Unknown
from cri_dockerd_py.migration.plan import PlannedImage
from cri_dockerd_py.migration.port import NodePort
from cri_dockerd_py.migration.progress import ImageProgress
from cri_dockerd_py.model.image import ImageRecord

_LOG = logging.getLogger(__name__)
_AT_ONCE = 2
_TELL_EVERY_S = 0.1
#: Left free for everything else on the file system.
_RESERVE_BYTES = 256 << 20

#: (source, target) → how images get there
Transfers = Mapping[tuple[str, str], ImageTransfer]


class ImageCopies:
    """Copies images of one engine into the other; nothing is copied twice."""

    def __init__(self, port: NodePort, transfers: Transfers) -> None:
        self._port = port
        self._transfers = transfers

    async def bring(
        self, source: str, target: str, images: Sequence[PlannedImage], note: Callable[[ImageProgress], None]
    ) -> None:
        """Bring the images that are not on the target and can be used there; raise what the first failing one met."""
        images = [image for image in images if not image.unreadable]
        wanted = [image for image in images if not image.present]
        gone = [image for image in wanted if image.missing_at_source]
        if gone:
            _LOG.warning("images of running pods are on no engine, kubelet will pull them: %s", _names(gone))
        records = self._port.images(source)
        missing = [records[image.id] for image in wanted if image.id in records]
        tally = _Tally(len(images) - len(gone), missing, note)
        if not missing:
            return
        transfer = self._transfers.get((source, target))
        if transfer is None:
            raise Unimplemented(f"images cannot be copied from {source} to {target}: pull them there first")
        await self._check_room(transfer, missing)
        slots = asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for record in missing:
                    group.create_task(self._copy(transfer, record, slots, tally), name=f"copy of {record.id}")
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._port.refresh_images(target)

    async def _check_room(self, transfer: ImageTransfer, missing: Sequence[ImageRecord]) -> None:
        if not await transfer.copies_content():
            return
        # Each layer is stored as it came, and unpacked.
        needed = 2 * sum(record.size_bytes for record in missing) + _RESERVE_BYTES
        room = await transfer.room_bytes()
        if room < needed:
            raise FailedPrecondition(
                f"the images need {needed / 1e6:.0f} MB where they go, and {room / 1e6:.0f} MB are free there: "
                "make room, or remove images that no pod uses"
            )

    async def _copy(
        self, transfer: ImageTransfer, record: ImageRecord, slots: asyncio.Semaphore, tally: _Tally
    ) -> None:
        async with slots:
            tally.begin(record)
            began = time.monotonic()
            try:
                await self._port.remember_copy(record, await transfer.copy(record, tally.note))
            except (CriError, OSError) as error:
                raise _failure(record, error) from error
            _LOG.info("copied image %s in %.1f s", _name(record), time.monotonic() - began)
            tally.end()


class _Tally:
    """Adds up, and tells a few times a second."""

    def __init__(self, total: int, missing: Sequence[ImageRecord], note: Callable[[ImageProgress], None]) -> None:
        self._note = note
        self._total = total
        self._done = total - len(missing)
        self._bytes_total = sum(record.size_bytes for record in missing)
        self._bytes = 0
        self._current = ""
        self._began = time.monotonic()
        self._told = 0.0
        self._tell()

    def begin(self, record: ImageRecord) -> None:
        """An image is being copied."""
        self._current = _name(record)
        self._tell()

    def note(self, count: int) -> None:
        """Bytes have been dealt with."""
        self._bytes += count
        if time.monotonic() - self._told >= _TELL_EVERY_S:
            self._tell()

    def end(self) -> None:
        """An image is there."""
        self._done += 1
        self._current = "" if self._done == self._total else self._current
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        passed_s = self._told - self._began
        # Archives have more in them than layers, and less than what their sizes say.
        total = max(self._bytes_total, self._bytes)
        self._note(ImageProgress(self._done, self._total, self._bytes, total, self._current, passed_s))


def _failure(record: ImageRecord, error: Exception) -> CriError:
    """Return what to tell of a copy that failed."""
    what = f"image {_name(record)} could not be copied: {error}"
    if isinstance(error, ResourceExhausted):
        return ResourceExhausted(f"{what}; no part of it is kept: make room, then `cri-dockerd-py migrate resume`")
    return type(error)(what) if isinstance(error, CriError) else Unknown(what)


def _name(record: ImageRecord) -> str:
    return next(iter((*record.repo_tags, *record.repo_digests)), record.id)


def _names(images: Sequence[PlannedImage]) -> str:
    return ", ".join(image.names[0] if image.names else image.id for image in images)
