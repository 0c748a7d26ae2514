"""What snapshots use of the disk: measured once for those that cannot change, again and again for writable ones."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from cri_dockerd_py._generated.containerd_v1.introspection_pb2 import PluginsRequest
from cri_dockerd_py._generated.containerd_v1.snapshots_pb2 import ACTIVE, Info
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.errors import CriError, FailedPrecondition, NotFound
from cri_dockerd_py.model.image import FilesystemUsage

_LOG = logging.getLogger(__name__)
_PLUGIN_TYPE = "io.containerd.snapshotter.v1"
_MEASURES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class SnapshotUsage:
    """What one snapshot has beyond its parent."""

    used_bytes: int
    inodes_used: int
    measured_at_ns: int


class SnapshotFilesystem:
    """The file system that holds the snapshots of one snapshotter."""

    def __init__(self, client: ContainerdClient, snapshots: Snapshots) -> None:
        self._client = client
        self._snapshots = snapshots
        self._measured: dict[str, SnapshotUsage] = {}
        self._root = ""

    async def measure(self) -> FilesystemUsage:
        """Measure what is new or can have changed, and return the sum of all snapshots, containers' own included.

        The time is that of the oldest part.
        """
        root = await self.root()
        now_ns = time.time_ns()
        present = {info.name: info async for info in self._snapshots.list()}
        known = {key: usage for key, usage in self._measured.items() if key in present}
        stale = [info for key, info in present.items() if key not in known or info.kind == ACTIVE]
        slots = asyncio.Semaphore(_MEASURES_AT_ONCE)
        for info, usage in zip(stale, await asyncio.gather(*(self._usage(info, slots) for info in stale)), strict=True):
            if usage is not None:
                known[info.name] = usage
        self._measured = known
        return FilesystemUsage(
            timestamp_ns=min(
                (usage.measured_at_ns for info in stale if (usage := known.get(info.name))), default=now_ns
            ),
            mountpoint=root,
            used_bytes=sum(usage.used_bytes for usage in known.values()),
            inodes_used=sum(usage.inodes_used for usage in known.values()),
        )

    def usage_of(self, key: str) -> SnapshotUsage | None:
        """Return what a snapshot used when it was last measured."""
        return self._measured.get(key)

    async def root(self) -> str:
        """Return the directory of the snapshotter, as containerd tells it."""
        if not self._root:
            request = PluginsRequest(filters=[f"type=={_PLUGIN_TYPE},id=={self._snapshots.snapshotter}"])
            plugins = (await self._client.call(self._client.introspection.Plugins, request)).plugins
            if not plugins or plugins[0].init_err.code:
                why = plugins[0].init_err.message if plugins else "there is no such plugin"
                raise FailedPrecondition(
                    f"containerd's snapshotter {self._snapshots.snapshotter} cannot be used: {why}"
                )
            self._root = plugins[0].exports["root"]
        return self._root

    async def _usage(self, info: Info, slots: asyncio.Semaphore) -> SnapshotUsage | None:
        """Return what a snapshot uses, None when it has just gone; one that cannot be measured counts as nothing."""
        async with slots:
            try:
                used_bytes, inodes_used = await self._snapshots.usage(info.name)
            except NotFound:
                return None
            except CriError as error:
                _LOG.debug("usage of snapshot %r is not known: %s", info.name, error)
                return self._measured.get(info.name)
        return SnapshotUsage(used_bytes, inodes_used, time.time_ns())
