"""What images use of the disk, over all engines: kubelet reads the first entry alone, so that one has to be right."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.errors import CriError, Unavailable
from cri_dockerd_py.model.image import FilesystemUsage

_LOG = logging.getLogger(__name__)
Filesystems = tuple[Sequence[FilesystemUsage], Sequence[FilesystemUsage]]


class ImageDisk:
    """Measures engines one by one, and tells the whole from memory."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._measured: dict[str, Filesystems] = {}
        self._devices: dict[str, int] = {}

    async def measure(self, side: Side) -> None:
        """Measure an engine anew."""
        found = await side.engine.images.filesystems()
        self._devices.update(await asyncio.to_thread(_devices, [one.mountpoint for group in found for one in group]))
        self._measured[side.name] = found

    async def keep_fresh(self, every_s: float) -> None:
        """Measure now and then, for as long as the service runs."""
        while True:
            await asyncio.sleep(every_s)
            for side in self._engines:
                if side.health.ready:
                    try:
                        await self.measure(side)
                    except CriError as error:
                        _LOG.warning("the disk usage of %s cannot be measured: %s", side.name, error)

    def filesystems(self) -> Filesystems:
        """Return (image file systems, container file systems), those of the default engine first (IMG-61).

        Where engines keep their images on one file system, its entry is their total.
        """
        names = sorted(self._measured, key=lambda name: name != self._engines.default.name)
        if not names:
            raise Unavailable("no engine has been reached yet, so its disk usage is not known")
        images, containers = zip(*(self._measured[name] for name in names), strict=True)
        return self._by_device(images), self._by_device(containers)

    def _by_device(self, groups: Iterable[Sequence[FilesystemUsage]]) -> Sequence[FilesystemUsage]:
        found: dict[object, FilesystemUsage] = {}
        for usage in (usage for group in groups for usage in group):
            key = self._devices.get(usage.mountpoint, usage.mountpoint)
            found[key] = _sum(found[key], usage) if key in found else usage
        return tuple(found.values())


def _sum(one: FilesystemUsage, other: FilesystemUsage) -> FilesystemUsage:
    """Return the total on one file system; inodes are counted on all of it by some engines, so they are not added."""
    return replace(
        one,
        timestamp_ns=min(one.timestamp_ns, other.timestamp_ns),
        used_bytes=one.used_bytes + other.used_bytes,
        inodes_used=max(one.inodes_used, other.inodes_used),
    )


def _devices(paths: Sequence[str]) -> dict[str, int]:
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path).st_dev
        except OSError:
            continue
    return found
