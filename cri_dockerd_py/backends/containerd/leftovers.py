"""What crashes leave behind beside records, and what records do not tell: directories, mounts, snapshots, layers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Sequence
from dataclasses import replace

from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.checkpoints import Checkpoints
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.container_prepare import layer_path_of
from cri_dockerd_py.backends.containerd.image_volumes import ImageVolumes
from cri_dockerd_py.backends.containerd.lost_shims import end_lost_shims
from cri_dockerd_py.backends.containerd.objects import Held, Objects
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.runtimes import Runtimes
from cri_dockerd_py.backends.containerd.sandbox_files import SandboxFiles
from cri_dockerd_py.backends.containerd.sandbox_prepare import SnapshotsOf
from cri_dockerd_py.errors import CriError, Unavailable

_LOG = logging.getLogger(__name__)
_AT_ONCE = 16


class Leftovers:
    """Looks for them once after every contact with containerd: only a crash makes new ones.

    Shims and leases are looked for every time: of what was being made when containerd died, or hung, some comes later.
    """

    def __init__(
        self,
        client: ContainerdClient,
        objects: Objects,
        runtimes: Runtimes,
        snapshots_of: SnapshotsOf,
        files: SandboxFiles,
        volumes: ImageVolumes,
        paths: EnginePaths,
        checkpoints: Checkpoints,
        end_stale_leases: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._objects = objects
        self._runtimes = runtimes
        self._snapshots_of = snapshots_of
        self._files = files
        self._volumes = volumes
        self._paths = paths
        self._checkpoints = checkpoints
        self._end_stale_leases = end_stale_leases
        self._is_due = True
        self._has_looked = False
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def look_again(self) -> None:
        """Containerd was away: look the next time."""
        self._is_due = True

    async def find_layers(self, held: Sequence[Held]) -> None:
        """Find the writable layers of containers whose records do not tell: the plugin's."""
        await asyncio.gather(*(self._find_layer(item) for item in held if _lacks_layer(item)))

    async def _find_layer(self, held: Held) -> None:
        async with self._slots:
            try:
                mounts = await self._snapshots_of(held.snapshotter).mounts(held.snapshot_key)
            except Unavailable:
                raise
            except CriError:  # its snapshot is gone, or nobody can read it any more
                return
        current = self._objects.held.get(held.id)
        if current is not None:
            self._objects.hold(replace(current, layer_path=layer_path_of(mounts)))

    async def sweep(self, present: Collection[str], with_task: Collection[str]) -> None:
        """Remove what belongs to none of the ids `present`, nor to what this process is making or has made.

        `with_task` are the containers that have a task.
        """
        pods = {held.sandbox_id for held in self._objects.held.values() if held.id in with_task}
        in_use = pods | set(with_task) | set(self._objects.making)
        await asyncio.to_thread(end_lost_shims, self._client.socket, self._client.namespace, in_use)
        await self._end_stale_leases()
        await self._checkpoints.sweep()
        if not self._is_due:
            return
        if not self._has_looked:
            await asyncio.to_thread(self._clear_scratch)
            self._has_looked = True
        kept = _Kept(present, self._objects)
        await self._clear(await self._files.ids(), kept, self._files.remove)
        await self._clear(await self._volumes.ids(), kept, self._volumes.release)
        views = {key: sandbox_id for key, sandbox_id in (await self._volumes.views()).items() if sandbox_id not in kept}
        await self._clear(views, kept, self._volumes.remove_view)
        await self._clear(await asyncio.to_thread(self._directories), kept, self._remove_directories)
        for snapshotter in self._runtimes.snapshotters():
            snapshots = self._snapshots_of(snapshotter)
            ours = [info.name async for info in snapshots.list([f'labels."{labels.NAME}"'])]
            await self._clear(ours, kept, snapshots.remove)
        self._is_due = False

    async def _clear(
        self, names: Iterable[str], kept: Container[str], remove: Callable[[str], Awaitable[object]]
    ) -> None:
        """Remove what has none of the names that are kept, each by itself: one that stays is no reason for others."""
        for name in names:
            if name in kept:
                continue
            try:
                await remove(name)
            except Unavailable:
                raise
            except (CriError, OSError) as error:
                _LOG.warning("what is left of %s cannot be removed and stays: %s", name, error)

    def _clear_scratch(self) -> None:
        """Only an earlier process has left something there."""
        for path in host_mounts.children(self._paths.scratch):
            with contextlib.suppress(CriError, OSError):
                host_mounts.unmount_and_remove(path)

    def _directories(self) -> Collection[str]:
        parents = (self._paths.containers, self._paths.container_states)
        return {path.name for parent in parents for path in host_mounts.children(parent)}

    async def _remove_directories(self, container_id: str) -> None:
        for parent in (self._paths.containers, self._paths.container_states):
            await asyncio.to_thread(shutil.rmtree, parent / container_id, ignore_errors=True)


class _Kept:
    """Ids that are in use at the moment of asking: what is being made beside a sweep is."""

    def __init__(self, present: Collection[str], objects: Objects) -> None:
        self._present = present
        self._objects = objects

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._present or object_id in self._objects.making or object_id in self._objects.held


def _lacks_layer(held: Held) -> bool:
    return held.kind == labels.CONTAINER and held.by_plugin and not held.layer_path and bool(held.snapshot_key)
