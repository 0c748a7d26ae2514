"""Snapshots: image layers unpacked, and what containers write on top of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from cri_dockerd_py._generated.containerd_v1.snapshots_pb2 import (
    CommitSnapshotRequest,
    Info,
    ListSnapshotsRequest,
    MountsRequest,
    PrepareSnapshotRequest,
    RemoveSnapshotRequest,
    StatSnapshotRequest,
    UsageRequest,
    ViewSnapshotRequest,
)
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.errors import NotFound


class Snapshots:
    """One snapshotter of containerd, such as `overlayfs`; keys are those of the containerd namespace."""

    def __init__(self, client: ContainerdClient, snapshotter: str) -> None:
        self._client = client
        self.snapshotter = snapshotter

    @property
    def lease_kind(self) -> str:
        """What a lease calls these snapshots."""
        return f"snapshots/{self.snapshotter}"

    async def prepare(
        self, key: str, parent: str, *, labels: Mapping[str, str] | None = None, lease: str = ""
    ) -> Sequence[Mount]:
        """Make a writable snapshot on top of `parent` and return how to mount it.

        NotFound when there is no such parent, AlreadyExists when the key is taken.
        """
        request = PrepareSnapshotRequest(snapshotter=self.snapshotter, key=key, parent=parent, labels=labels)
        return (await self._client.call(self._client.snapshots.Prepare, request, lease=lease)).mounts

    async def view(
        self, key: str, parent: str, *, labels: Mapping[str, str] | None = None, lease: str = ""
    ) -> Sequence[Mount]:
        """Make a read-only snapshot of `parent` and return how to mount it; errors as of `prepare`."""
        request = ViewSnapshotRequest(snapshotter=self.snapshotter, key=key, parent=parent, labels=labels)
        return (await self._client.call(self._client.snapshots.View, request, lease=lease)).mounts

    async def mounts(self, key: str) -> Sequence[Mount]:
        """Return how to mount a snapshot that was prepared."""
        request = MountsRequest(snapshotter=self.snapshotter, key=key)
        return (await self._client.call(self._client.snapshots.Mounts, request)).mounts

    async def commit(self, name: str, key: str, *, labels: Mapping[str, str] | None = None, lease: str = "") -> None:
        """Turn what was prepared under `key` into the parent-to-be `name`; AlreadyExists when somebody was first."""
        request = CommitSnapshotRequest(snapshotter=self.snapshotter, name=name, key=key, labels=labels)
        await self._client.call(self._client.snapshots.Commit, request, lease=lease)

    async def remove(self, key: str) -> None:
        """Remove a snapshot; absent is fine; FailedPrecondition when others are on top of it."""
        request = RemoveSnapshotRequest(snapshotter=self.snapshotter, key=key)
        with contextlib.suppress(NotFound):
            await self._client.call(self._client.snapshots.Remove, request)

    async def stat(self, key: str) -> Info | None:
        """Return kind, parent and labels of a snapshot, None when it is absent."""
        request = StatSnapshotRequest(snapshotter=self.snapshotter, key=key)
        try:
            return (await self._client.call(self._client.snapshots.Stat, request)).info
        except NotFound:
            return None

    async def usage(self, key: str) -> tuple[int, int]:
        """Return (bytes, inodes) that a snapshot has beyond its parent; of a writable one its files are walked."""
        request = UsageRequest(snapshotter=self.snapshotter, key=key)
        usage = await self._client.call(self._client.snapshots.Usage, request)
        return usage.size, usage.inodes

    async def list(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        """Yield all snapshots that pass one of the filters; all when there are none."""
        request = ListSnapshotsRequest(snapshotter=self.snapshotter, filters=filters)
        async with contextlib.aclosing(self._client.stream(self._client.snapshots.List, request)) as answers:
            async for answer in answers:
                for info in answer.info:
                    yield info
