"""What an earlier process put on record, taken over at start: tombstones, and what was last seen of engines.

An engine that is away when the service starts must not look empty: kubelet would run its pods a second time (LSB-09).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cri_dockerd_py.core.engines import Side
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.stored_container import as_record, completed
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.store.kept import Kept
from cri_dockerd_py.store.records import Stored


class LastKnown:
    """Holds what was on record at start until engines have been reached."""

    def __init__(self, inventory: Inventory, attachments: PodAttachments) -> None:
        self._inventory = inventory
        self._attachments = attachments
        self._kept = Kept()
        self._stored = Stored()

    def restore(self, kept: Kept, stored: Stored) -> None:
        """Put what needs no engine: tombstones, and which sandboxes are withheld."""
        self._kept, self._stored = kept, stored
        self._inventory.image_list.restore(kept.image_aliases)
        for name, image_id in kept.image_digests.items():
            self._inventory.image_list.know_digests(image_id, [name])
        self._inventory.withheld.update(kept.withheld)
        self._inventory.tombstones.update(kept.tombstones)
        self._put(
            (one for one in kept.sandboxes.values() if one.id in kept.tombstones),
            (one for one in kept.containers.values() if one.id in kept.tombstones),
        )

    def assume(self, side: Side) -> bool:
        """Put what was last seen of an engine that is away; False when that was never put on record."""
        if side.known or side.name not in self._kept.seen:
            return False
        self._put(self._sandboxes(side.name), self._containers(side.name))
        side.known = side.assumed = True
        return True

    def forget(self) -> None:
        """Let go of what is not needed any more."""
        self._kept, self._stored = Kept(), Stored()

    def _put(self, sandboxes: Iterable[SandboxRecord], containers: Iterable[ContainerRecord]) -> None:
        for sandbox in sandboxes:
            self._inventory.put_sandbox(sandbox)
        for container in containers:
            self._inventory.put_container(container)

    def _sandboxes(self, engine: str) -> list[SandboxRecord]:
        """Return an engine's sandboxes; those made since it was last looked at are taken to be READY still."""
        found = {
            row.id: SandboxRecord(
                row.id, row.spec, SandboxState.READY, row.created_at_ns, engine, ips=self._attachments.ips(row.id)
            )
            for row in self._stored.sandboxes.values()
            if row.engine == engine
        }
        found.update({one.id: one for one in self._kept.sandboxes.values() if self._is_live(one, engine)})
        return [replace(one, pid=0) for one in found.values()]

    def _containers(self, engine: str) -> list[ContainerRecord]:
        rows = self._stored.containers
        found = {row.id: as_record(row) for row in rows.values() if row.engine == engine}
        for one in self._kept.containers.values():
            if self._is_live(one, engine):
                found[one.id] = completed(one, rows[one.id]) if one.id in rows else one
        return [replace(one, pid=0) for one in found.values()]

    def _is_live(self, record: SandboxRecord | ContainerRecord, engine: str) -> bool:
        return record.engine == engine and record.id not in self._kept.tombstones
