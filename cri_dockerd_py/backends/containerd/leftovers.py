"""What crashes leave behind beside records, and what records do not tell: directories, mounts, snapshots, layers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Sequence
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
from cri_dockerd_py.errors import NotFound

_AT_ONCE = 16


class Leftovers:
    """Looks for them once after every contact with containerd: only a crash makes new ones.

    Shims are looked for every time: one that was being started when containerd died may be lost only later.
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
    ) -> None:
        self._client = client
        self._objects = objects
        self._runtimes = runtimes
        self._snapshots_of = snapshots_of
        self._files = files
        self._volumes = volumes
        self._paths = paths
        self._checkpoints = checkpoints
        self._is_due = True
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
            except NotFound:
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
        await self._checkpoints.sweep()
        if not self._is_due:
            return
        kept = {*present, *self._objects.making, *self._objects.held}
        await self._files.remove_all_but(kept)
        await self._volumes.release_all_but(kept)
        await asyncio.to_thread(self._remove_directories, kept)
        for snapshotter in self._runtimes.snapshotters():
            await self._remove_snapshots(snapshotter, kept)
        self._is_due = False

    def _remove_directories(self, kept: Collection[str]) -> None:
        for path in host_mounts.children(self._paths.scratch):
            host_mounts.unmount_and_remove(path)
        for parent in (self._paths.containers, self._paths.container_states):
            for path in host_mounts.children(parent):
                if path.name not in kept:
                    shutil.rmtree(path, ignore_errors=True)

    async def _remove_snapshots(self, snapshotter: str, kept: Collection[str]) -> None:
        snapshots = self._snapshots_of(snapshotter)
        lost = [info.name async for info in snapshots.list([f'labels."{labels.NAME}"']) if info.name not in kept]
        for key in lost:
            await snapshots.remove(key)


def _lacks_layer(held: Held) -> bool:
    return held.kind == labels.CONTAINER and held.by_plugin and not held.layer_path and bool(held.snapshot_key)
