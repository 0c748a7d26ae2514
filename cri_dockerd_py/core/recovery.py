"""Brings memory, the database and the engine together: at start, after every gap, and every few minutes.

What was begun and not finished is taken back; what the engine holds is listed; what it lost is kept as NOTREADY until
kubelet removes it, so that its network is released (LSB-09, NET-13).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from cri_dockerd_py.backends.base import Engine, EngineSnapshot
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.node_status import NodeStatus
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.stored_container import completed
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.store.records import (
    Intent,
    IntentKind,
    Records,
    Stored,
    StoredContainer,
    StoredSandbox,
    read_create_intent,
    read_run_intent,
)

_LOG = logging.getLogger(__name__)
_STEP_WITHIN_S = 60.0


class Recovery:
    """Reconciles; safe to repeat at any time, one at a time."""

    def __init__(
        self,
        engine: Engine,
        inventory: Inventory,
        identities: Identities,
        attachments: PodAttachments,
        records: Records,
        status: NodeStatus,
    ) -> None:
        self._engine = engine
        self._inventory = inventory
        self._identities = identities
        self._attachments = attachments
        self._records = records
        self._status = status

    async def resync(self) -> int:
        """Read the engine's whole state and put what differs from memory; return the number of unnoticed changes."""
        generation = self._inventory.generation
        stored = await self._records.load()
        await self._take_back_unfinished(stored)
        snapshot = await self._engine.events.snapshot()
        self._status.info = snapshot.info
        before = self._inventory.generation
        self._put_sandboxes(snapshot, stored, generation)
        self._put_containers(snapshot, stored, generation)
        self._inventory.put_images(snapshot.images)
        drift = self._inventory.generation - before if self._inventory.known else 0
        self._inventory.known = True
        self._inventory.forget_changes(generation)
        await self._forget_lost_containers(snapshot, stored, generation)
        await self._release_orphans()
        return drift

    # --- what was begun

    async def clear_leftovers(self) -> None:
        """Try again to undo what could not be undone when it failed (RUN-06)."""
        await self._take_back_unfinished(await self._records.load())
        left = await self._records.load()
        self._records.leftovers = any(not self._in_making(intent) for intent in left.intents)

    def _in_making(self, intent: Intent) -> bool:
        """Whether a call under way has this intent."""
        if intent.kind is IntentKind.RUN_SANDBOX:
            return self._identities.sandbox_in_making(read_run_intent(intent).metadata)
        create = read_create_intent(intent)
        return self._identities.container_in_making(create.sandbox_id, create.spec.metadata)

    async def _take_back_unfinished(self, stored: Stored) -> None:
        for intent in stored.intents:
            try:
                async with asyncio.timeout(_STEP_WITHIN_S):
                    await self._take_back(intent, stored)
            except (CriError, TimeoutError) as error:
                _LOG.warning("a half-made object is still there, will try again: %s: %s", intent.kind.value, error)

    async def _take_back(self, intent: Intent, stored: Stored) -> None:
        if intent.kind is IntentKind.RUN_SANDBOX:
            spec = read_run_intent(intent)
            if self._in_making(intent) or not await self._records.is_open(intent.id):
                return
            if intent.object_id:
                await self._attachments.release(intent.object_id, None)
                await self._engine.sandboxes.remove(intent.object_id)
            await self._engine.sandboxes.discard_unborn(spec)
        else:
            create = read_create_intent(intent)
            if self._in_making(intent) or not await self._records.is_open(intent.id):
                return
            sandbox = stored.sandboxes.get(create.sandbox_id)
            if sandbox is not None:
                await self._engine.containers.discard_unborn(create.spec, _as_record(sandbox))
        await self._records.clear_intent(intent.id)
        _LOG.info("took back an unfinished %s", intent.kind.value)

    # --- sandboxes

    def _put_sandboxes(self, snapshot: EngineSnapshot, stored: Stored, generation: int) -> None:
        seen = {record.id: record for record in snapshot.sandboxes}
        for sandbox_id in list(self._inventory.sandboxes.keys() - seen.keys() - stored.sandboxes.keys()):
            if not self._inventory.changed_since(sandbox_id, generation):
                self._inventory.drop_sandbox(sandbox_id)
        for record in snapshot.sandboxes:
            self._put_sandbox(self.completed_sandbox(record, stored.sandboxes.get(record.id)), generation)
        for sandbox_id, lost in stored.sandboxes.items():
            if sandbox_id not in seen and not self._inventory.changed_since(sandbox_id, generation):
                self._put_sandbox(_as_record(lost), generation)

    def _put_sandbox(self, record: SandboxRecord, generation: int) -> None:
        if self._inventory.changed_since(record.id, generation):
            return
        if self._identities.sandbox_in_making(record.spec.metadata):
            return
        self._inventory.put_sandbox(record)

    def completed_sandbox(self, record: SandboxRecord, stored: StoredSandbox | None) -> SandboxRecord:
        """Return the engine's record with what only we know: the spec as asked, and the pod's addresses."""
        if stored is not None:
            record = replace(record, spec=stored.spec, created_at_ns=stored.created_at_ns)
        known = self._inventory.sandboxes.get(record.id)
        ips = known.ips if known else self._attachments.ips(record.id) or record.ips
        attachment = self._attachments.held.get(record.id)
        record = replace(record, ips=ips, netns_path=attachment.netns_path if attachment else "")
        if record.state is SandboxState.READY and not ips and not record.spec.host_network:
            return replace(record, state=SandboxState.NOTREADY)
        return record

    # --- containers

    def _put_containers(self, snapshot: EngineSnapshot, stored: Stored, generation: int) -> None:
        seen = {record.id for record in snapshot.containers}
        for container_id in list(self._inventory.containers.keys() - seen):
            if not self._inventory.changed_since(container_id, generation):
                self._inventory.drop_container(container_id)
        for record in snapshot.containers:
            if self._inventory.changed_since(record.id, generation):
                continue
            if self._identities.container_in_making(record.sandbox_id, record.spec.metadata):
                continue
            self._inventory.put_container(self.completed_container(record, stored.containers.get(record.id)))

    def completed_container(self, record: ContainerRecord, row: StoredContainer | None) -> ContainerRecord:
        """Return the engine's record with what only we know of it; what is in memory and still so stays as it is."""
        known = self._inventory.containers.get(record.id)
        if known is not None and known.state is record.state:
            return known
        return record if row is None else completed(record, row)

    async def _forget_lost_containers(self, snapshot: EngineSnapshot, stored: Stored, generation: int) -> None:
        present = {record.id for record in snapshot.containers} | self._inventory.containers.keys()
        lost = [container_id for container_id in stored.containers if container_id not in present]
        if lost:
            await self._records.forget_containers(lost)

    # --- network

    async def _release_orphans(self) -> None:
        """Release the network of sandboxes that nobody will stop any more, because they are listed nowhere."""
        await self._attachments.sweep(self._inventory.sandboxes)
        for sandbox_id in list(self._attachments.held):
            attachment = self._attachments.held.get(sandbox_id)
            if attachment is None or sandbox_id in self._inventory.sandboxes:
                continue
            if self._identities.sandbox_in_making(attachment.spec.metadata):
                continue
            try:
                await self._attachments.release(sandbox_id, None)
                _LOG.info("released the network of sandbox %s, which is gone", sandbox_id)
            except CriError as error:
                _LOG.warning("the network of sandbox %s is still held, will try again: %s", sandbox_id, error)


def _as_record(stored: StoredSandbox) -> SandboxRecord:
    """Return a sandbox that the engine does not hold any more."""
    return SandboxRecord(stored.id, stored.spec, SandboxState.NOTREADY, stored.created_at_ns, stored.engine)
