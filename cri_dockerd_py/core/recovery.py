"""Brings memory, the database and one engine together: at start, after every gap, and every few minutes.

What was begun and not finished is taken back; what the engine holds is listed; what it lost is kept as NOTREADY until
kubelet removes it, so that its network is released (LSB-09, NET-13).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import replace

from cri_dockerd_py.backends.base import EngineSnapshot
from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.images import Images
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.stored_container import completed
from cri_dockerd_py.core.tombstones import Tombstones
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.store.kept import KeptRecords
from cri_dockerd_py.store.records import (
    CreateIntent,
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
    """Reconciles one engine; safe to repeat at any time, one at a time. Other engines' objects are left alone."""

    def __init__(
        self,
        side: Side,
        engines: Engines,
        inventory: Inventory,
        identities: Identities,
        images: Images,
        attachments: PodAttachments,
        records: Records,
        kept: KeptRecords,
        tombstones: Tombstones,
    ) -> None:
        self._side = side
        self._engine = side.engine
        self._engines = engines
        self._inventory = inventory
        self._identities = identities
        self._images = images
        self._attachments = attachments
        self._records = records
        self._kept = kept
        self._tombstones = tombstones
        self._remembered_at = -1

    async def resync(self) -> Collection[str]:
        """Read the engine's whole state and put what differs from memory; return the ids of what had changed.

        At the first contact there is nothing to compare with.
        """
        generation = self._side.reading_since = self._inventory.generation
        try:
            return await self._resync(generation)
        finally:
            self._side.reading_since = None

    async def _resync(self, generation: int) -> Collection[str]:
        stored = await self._records.load()
        await self._take_back_unfinished(stored)
        with self._inventory.image_list.reading(self._side.name) as reading:
            snapshot = await self._engine.events.snapshot()
            self._inventory.image_list.put_all(reading, snapshot.images)
        self._side.info = snapshot.info
        await self._images.settle_ids()
        before = self._inventory.generation
        self._put_sandboxes(snapshot, stored, generation)
        self._put_containers(snapshot, stored, generation)
        changed = self._inventory.changed_after(before) if self._side.known else ()
        self._side.known, self._side.assumed = True, False
        self._inventory.known = self._engines.all_known
        self._inventory.forget_changes(self._engines.read_since(generation))
        await self._forget_lost_containers(snapshot, stored)
        await self._release_orphans()
        await self._tombstones.finish(self._side, snapshot)
        await self.remember()
        return changed

    async def remember(self) -> None:
        """Put on record what this engine has, for a start without it; only a node with several engines needs that."""
        if len(self._engines.names) == 1 or not self._side.known:
            return
        generation = self._inventory.generation
        if generation == self._remembered_at:
            return
        sandboxes = [one for one in self._inventory.sandboxes.values() if self._is_live(one)]
        containers = [one for one in self._inventory.containers.values() if self._is_live(one)]
        await self._kept.remember(self._side.name, sandboxes, containers)
        self._remembered_at = generation

    def _is_live(self, record: SandboxRecord | ContainerRecord) -> bool:
        """Whether the record is this engine's to tell of."""
        return record.engine == self._side.name and record.id not in self._inventory.tombstones

    # --- what was begun

    async def clear_leftovers(self) -> None:
        """Try again to undo what could not be undone when it failed (RUN-06)."""
        await self._take_back_unfinished(await self._records.load())
        left = (await self._records.load()).intents
        if all(intent.engine != self._side.name or self._in_making(intent) for intent in left):
            self._records.leftovers.discard(self._side.name)

    def _in_making(self, intent: Intent) -> bool:
        """Whether a call under way has this intent."""
        if intent.kind is IntentKind.RUN_SANDBOX:
            return self._identities.sandbox_in_making(read_run_intent(intent).metadata)
        create = read_create_intent(intent)
        return self._identities.container_in_making(create.sandbox_id, create.spec.metadata)

    async def _take_back_unfinished(self, stored: Stored) -> None:
        for intent in stored.intents:
            if intent.engine != self._side.name:
                continue
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
            if not self._sandbox_was_made(spec, stored):
                await self._engine.sandboxes.discard_unborn(spec)
        else:
            create = read_create_intent(intent)
            if self._in_making(intent) or not await self._records.is_open(intent.id):
                return
            sandbox = stored.sandboxes.get(create.sandbox_id)
            if sandbox is not None and not self._container_was_made(create, stored):
                await self._engine.containers.discard_unborn(create.spec, _as_record(sandbox))
        await self._records.clear_intent(intent.id)
        _LOG.info("took back an unfinished %s", intent.kind.value)

    def _sandbox_was_made(self, spec: SandboxSpec, stored: Stored) -> bool:
        """Whether a later call has made a sandbox of this identity here, which is none to take back."""
        found = (self._identities.sandbox_with(spec.metadata), *stored.sandboxes.values())
        return any(
            one is not None and one.engine == self._side.name and one.spec.metadata == spec.metadata for one in found
        )

    def _container_was_made(self, create: CreateIntent, stored: Stored) -> bool:
        """Whether a later call has made a container of this identity."""
        identity = create.sandbox_id, create.spec.metadata
        found = (self._identities.container_with(*identity), *stored.containers.values())
        return any(one is not None and (one.sandbox_id, one.spec.metadata) == identity for one in found)

    # --- sandboxes

    def _put_sandboxes(self, snapshot: EngineSnapshot, stored: Stored, generation: int) -> None:
        seen = {record.id for record in snapshot.sandboxes}
        rows = {one.id: one for one in stored.sandboxes.values() if one.engine == self._side.name}
        for record in list(self._inventory.sandboxes.values()):
            known = record.id in seen or record.id in rows
            if self._is_live(record) and not known and not self._inventory.changed_since(record.id, generation):
                self._inventory.drop_sandbox(record.id)
        for record in snapshot.sandboxes:
            self._put_sandbox(self.completed_sandbox(record, rows.get(record.id)), generation)
        for row in rows.values():
            if row.id not in seen:
                self._put_sandbox(_as_record(row), generation)

    def _put_sandbox(self, record: SandboxRecord, generation: int) -> None:
        if record.id in self._inventory.tombstones or self._inventory.changed_since(record.id, generation):
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
        record = replace(record, ips=ips, netns_path=attachment.netns_path if attachment else record.netns_path)
        if record.state is SandboxState.READY and not ips and not record.spec.host_network:
            return replace(record, state=SandboxState.NOTREADY)
        return record

    # --- containers

    def _put_containers(self, snapshot: EngineSnapshot, stored: Stored, generation: int) -> None:
        seen = {record.id for record in snapshot.containers}
        for known in list(self._inventory.containers.values()):
            lost = self._is_live(known) and known.id not in seen
            if lost and not self._inventory.changed_since(known.id, generation):
                self._inventory.drop_container(known.id)
        for record in snapshot.containers:
            if record.id in self._inventory.tombstones or self._inventory.changed_since(record.id, generation):
                continue
            if self._identities.container_in_making(record.sandbox_id, record.spec.metadata):
                continue
            self._inventory.put_container(self.completed_container(record, stored.containers.get(record.id)))

    def completed_container(self, record: ContainerRecord, row: StoredContainer | None) -> ContainerRecord:
        """Return the engine's record with what only we know of it; what is in memory and still so stays as it is."""
        known = self._inventory.containers.get(record.id)
        if known is not None and known.state is record.state and not self._side.assumed:
            return known
        return record if row is None else completed(record, row)

    async def _forget_lost_containers(self, snapshot: EngineSnapshot, stored: Stored) -> None:
        present = {record.id for record in snapshot.containers} | self._inventory.containers.keys()
        rows = stored.containers.values()
        lost = [row.id for row in rows if row.engine == self._side.name and row.id not in present]
        if lost:
            await self._records.forget_containers(lost)

    # --- network

    async def _release_orphans(self) -> None:
        """Release the network of sandboxes that nobody will stop any more, because they are listed nowhere."""
        if self._inventory.known:
            await self._attachments.sweep(self._inventory.sandboxes)
        for sandbox_id in list(self._attachments.held):
            attachment = self._attachments.held.get(sandbox_id)
            if attachment is None or attachment.engine != self._side.name or sandbox_id in self._inventory.sandboxes:
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
