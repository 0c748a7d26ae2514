"""The status files of containers, and their content in memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from cri_dockerd_py.backends.containerd.objects import Held
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.status_file import ContainerStatus, read_status, write_status
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.errors import CriError, Internal, ResourceExhausted
from cri_dockerd_py.network.settle import settle_call

_LOG = logging.getLogger(__name__)


class Statuses:
    """`plugin_root` is the directory of containerd's CRI plugin, for containers that it has made; None if unknown."""

    def __init__(self, paths: EnginePaths) -> None:
        self.plugin_root: Path | None = None
        self._paths = paths
        self._known: dict[str, ContainerStatus] = {}
        self._writing = KeyedLocks()

    def known(self, held: Held) -> ContainerStatus:
        """Return what is in memory: call `load` before."""
        return self._known.get(held.id) or ContainerStatus(held.created_at_ns)

    async def load(self, held: Iterable[Held]) -> None:
        """Read the files of containers that are not in memory yet."""
        missing = [item for item in held if item.id not in self._known]
        if missing:
            self._known |= await asyncio.to_thread(self._read, missing)

    def _read(self, held: list[Held]) -> Mapping[str, ContainerStatus]:
        return {item.id: self._read_one(item) for item in held}

    def _read_one(self, held: Held) -> ContainerStatus:
        status = read_status(self._paths.status(held.id))
        if status is None and held.by_plugin and self.plugin_root is not None:
            status = read_status(self.plugin_root / "containers" / held.id / "status")
        return status or ContainerStatus(held.created_at_ns)

    async def put(self, container_id: str, status: ContainerStatus) -> None:
        """Put a status in memory and on file; ResourceExhausted or Internal when it cannot be written."""
        self._known[container_id] = status
        async with self._writing.hold(container_id):
            # What came while this waited is newer, and stays.
            newest = self._known.get(container_id, status)
            writing = asyncio.to_thread(self._write, container_id, newest)
            await settle_call(writing, f"status of {container_id}")

    def _write(self, container_id: str, status: ContainerStatus) -> None:
        try:
            write_status(self._paths.status(container_id), status)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = ResourceExhausted if full else Internal
            raise kind(f"the status of container {container_id} cannot be written: {error}") from error

    async def note(self, container_id: str, status: ContainerStatus) -> None:
        """Put what has happened in memory, and on file if that can be: it is true all the same."""
        try:
            await self.put(container_id, status)
        except CriError as error:
            _LOG.warning("%s; after a restart of the service it is not known", error)

    def add(self, container_id: str, status: ContainerStatus) -> None:
        """Take note of a container that was made a moment ago: its file comes with its start."""
        self._known[container_id] = status

    def forget(self, container_id: str) -> None:
        """The container is gone; its directory is the caller's."""
        self._known.pop(container_id, None)

    def keep_only(self, container_ids: Iterable[str]) -> None:
        """Forget all others."""
        kept = set(container_ids)
        for container_id in self._known.keys() - kept:
            with contextlib.suppress(KeyError):
                del self._known[container_id]
