"""Tombstones: ended sandboxes and containers that kubelet still asks about, kept when their engine has them no more.

Kubelet keeps one dead container a name for the life of a pod, and a sandbox that has containers; their statuses and log
paths must not vanish with an engine that is uninstalled (RCR-18, RCR-20).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil

from cri_dockerd_py.backends.base import EngineSnapshot
from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.core.gate import Gates
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.together import together
from cri_dockerd_py.errors import CriError, FailedPrecondition
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.store.kept import KeptRecords

_LOG = logging.getLogger(__name__)


class Tombstones:
    """Buries sandboxes with their containers: on record first, then gone from their engine."""

    def __init__(
        self, engines: Engines, inventory: Inventory, attachments: PodAttachments, kept: KeptRecords, gates: Gates
    ) -> None:
        self._engines = engines
        self._inventory = inventory
        self._attachments = attachments
        self._kept = kept
        self._gates = gates

    async def bury(self, sandbox_id: str) -> None:
        """Keep a dead sandbox in the database alone; FailedPrecondition when it may live, done already is done."""
        async with self._gates.end(sandbox_id):
            record = self._inventory.sandboxes.get(sandbox_id)
            if record is None or sandbox_id in self._inventory.tombstones:
                return
            self._check_dead(record)
            side = self._engines.of(record.engine)
            side.health.require()
            containers = self._inventory.containers_of(sandbox_id)
            dead = [one for one in containers if one.state is ContainerState.EXITED]
            await asyncio.to_thread(_keep_logs, [one.log_path for one in dead])
            await self._kept.bury(record, dead)
            self._inventory.tombstones.update([record.id, *(one.id for one in dead)])
            self._inventory.withheld.discard(record.id)
            for unborn in containers:
                if unborn.state is ContainerState.CREATED:  # kubelet would take it for a sign of progress (RCR-25)
                    self._inventory.drop_container(unborn.id)
            await side.health.guard(_erase(side, record.id, [one.id for one in containers]))

    def _check_dead(self, record: SandboxRecord) -> None:
        containers = self._inventory.containers_of(record.id)
        over = (ContainerState.EXITED, ContainerState.CREATED)
        alive = [one.id for one in containers if one.state not in over]
        if record.state is SandboxState.READY or record.pid or alive:
            what = f"container {alive[0]} has not ended" if alive else "it runs"
            raise FailedPrecondition(f"sandbox {record.id} cannot be kept as a record alone: {what}; stop it first")
        if self._attachments.is_held(record.id):
            raise FailedPrecondition(f"sandbox {record.id} still holds an address: stop it first, or again")

    async def finish(self, side: Side, snapshot: EngineSnapshot) -> None:
        """Remove from an engine what a crash left there after it was buried."""
        buried = self._inventory.tombstones
        containers = [one.id for one in snapshot.containers if one.id in buried]
        sandboxes = [one.id for one in snapshot.sandboxes if one.id in buried]
        for sandbox_id in sandboxes or ([""] if containers else []):
            try:
                await _erase(side, sandbox_id, containers)
            except CriError as error:
                _LOG.warning("what was buried is still on %s, will try again: %s", side.name, error)


def _keep_logs(paths: list[str]) -> None:
    """Put files in place of links: what they lead to is the engine's, and goes with the containers."""
    for path in paths:
        if not path or not os.path.islink(path) or not os.path.exists(path):
            continue
        scratch = f"{path}.kept"
        try:
            shutil.copyfile(path, scratch)
            os.replace(scratch, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(scratch)
            raise FailedPrecondition(f"the log {path} cannot be kept without its engine: {error}") from error


async def _erase(side: Side, sandbox_id: str, container_ids: list[str]) -> None:
    await together(*(side.engine.containers.remove(container_id) for container_id in container_ids))
    if sandbox_id:
        await side.engine.sandboxes.remove(sandbox_id)
