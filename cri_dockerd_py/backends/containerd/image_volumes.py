"""Images mounted into containers read-only (MNT-14 to MNT-16): once per sandbox and image, each from a view of its own.

`<state>/image-volumes/<sandbox id>/<image digest>` is where a view is mounted; labels tell whose a view is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.errors import AlreadyExists

#: Returns the snapshot that has all layers of an image, unpacked if need be: image id, snapshotter.
ChainOf = Callable[[str, str], Awaitable[str]]


class ImageVolumes:
    """Mounts and releases."""

    def __init__(self, snapshots: Snapshots, chain_of: ChainOf, directory: Path) -> None:
        self._snapshots = snapshots
        self._chain_of = chain_of
        self._directory = directory
        self._locks = KeyedLocks()

    async def source(self, sandbox_id: str, image_id: str, sub_path: str) -> str:
        """Return the host path of the image's content, or of `sub_path` in it, mounting it if it is not yet."""
        target = self._directory / sandbox_id / image_id.removeprefix("sha256:")
        async with self._locks.hold(sandbox_id):
            if not await asyncio.to_thread(host_mounts.is_mounted, target):
                await self._mount(sandbox_id, image_id, target)
        return await asyncio.to_thread(host_mounts.resolve_beneath, str(target), sub_path)

    async def _mount(self, sandbox_id: str, image_id: str, target: Path) -> None:
        chain_id = await self._chain_of(image_id, self._snapshots.snapshotter)
        key = _key(sandbox_id, target.name)
        try:
            mounts = await self._snapshots.view(key, chain_id, labels=labels.volume_labels(sandbox_id))
        except AlreadyExists:
            mounts = await self._snapshots.mounts(key)
        await asyncio.to_thread(target.mkdir, 0o755, True, True)
        for mount in mounts:
            options = [option for option in mount.options if option != "rw"]
            await asyncio.to_thread(host_mounts.mount, mount.type, mount.source, target, [*options, "ro"])

    async def release(self, sandbox_id: str) -> None:
        """Unmount what was mounted for a sandbox; nothing mounted is fine."""
        directory = self._directory / sandbox_id
        async with self._locks.hold(sandbox_id):
            targets = await asyncio.to_thread(host_mounts.children, directory)
            for target in targets:
                await asyncio.to_thread(host_mounts.unmount_and_remove, target)
                await self._snapshots.remove(_key(sandbox_id, target.name))
            if targets:
                with suppress(FileNotFoundError):
                    await asyncio.to_thread(directory.rmdir)

    async def ids(self) -> Collection[str]:
        """Return the sandboxes that have something mounted for them."""
        return {path.name for path in await asyncio.to_thread(host_mounts.children, self._directory)}

    async def views(self) -> Mapping[str, str]:
        """Return the keys of all views, and whose they are: one that has lost its mount is not among `ids`."""
        found = self._snapshots.list([f'labels."{labels.SANDBOX_ID}"'])
        return {info.name: info.labels[labels.SANDBOX_ID] async for info in found}

    async def remove_view(self, key: str) -> None:
        """Remove a view without a mount; absent is fine."""
        await self._snapshots.remove(key)


def _key(sandbox_id: str, digest: str) -> str:
    return f"cri-dockerd-py-volume-{sandbox_id}-{digest}"
