"""Container events (CRI GetContainerEvents): each change of the inventory once, in order, to every subscriber."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import IntEnum

from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.errors import ResourceExhausted
from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState

_QUEUE_LIMIT = 4096


class ContainerEventType(IntEnum):
    """CRI ContainerEventType, with the wire's numbers."""

    CREATED = 0
    STARTED = 1
    STOPPED = 2
    DELETED = 3


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """One event; `container_id` is the sandbox's id for a sandbox's event. The snapshots are from after the change."""

    container_id: str
    type: ContainerEventType
    created_at_ns: int
    sandbox: SandboxRecord | None
    containers: tuple[ContainerRecord, ...]


class Events:
    """Turns inventory changes into events; costs nothing while nobody listens."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._subscribers: set[asyncio.Queue[ContainerEvent | None]] = set()
        self._last_ns = 0
        inventory.on_sandbox.append(self._sandbox_changed)
        inventory.on_container.append(self._container_changed)

    async def subscribe(self) -> AsyncIterator[ContainerEvent]:
        """Yield every event from now on; ends with ResourceExhausted when the reader falls too far behind (EVT-07)."""
        queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._subscribers.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
            raise ResourceExhausted(f"more than {_QUEUE_LIMIT} events were waiting; subscribe again and list once")
        finally:
            self._subscribers.discard(queue)

    def _sandbox_changed(self, old: SandboxRecord | None, new: SandboxRecord | None) -> None:
        if not self._subscribers:
            return
        if old is None and new is not None:
            self._publish(new.id, ContainerEventType.CREATED, new.id)
            if new.state is SandboxState.READY:
                self._publish(new.id, ContainerEventType.STARTED, new.id)
        elif new is None and old is not None:
            if old.state is SandboxState.READY:  # it went while its engine was away
                self._publish(old.id, ContainerEventType.STOPPED, old.id)
            self._publish(old.id, ContainerEventType.DELETED, old.id)
        elif old is not None and new is not None and old.state is not new.state:
            self._publish(new.id, ContainerEventType.STOPPED, new.id)

    def _container_changed(self, old: ContainerRecord | None, new: ContainerRecord | None) -> None:
        if not self._subscribers:
            return
        if new is None:
            if old is not None:
                if old.state is ContainerState.RUNNING:
                    self._publish(old.id, ContainerEventType.STOPPED, old.sandbox_id)
                self._publish(old.id, ContainerEventType.DELETED, old.sandbox_id)
            return
        before = None if old is None else old.state
        if before is None:
            self._publish(new.id, ContainerEventType.CREATED, new.sandbox_id)
        if new.state is before:
            return
        if new.started_at_ns and before in (None, ContainerState.CREATED) and new.state is not ContainerState.CREATED:
            self._publish(new.id, ContainerEventType.STARTED, new.sandbox_id)
        if new.state is ContainerState.EXITED:
            self._publish(new.id, ContainerEventType.STOPPED, new.sandbox_id)

    def _publish(self, object_id: str, kind: ContainerEventType, sandbox_id: str) -> None:
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        sandbox = self._inventory.sandboxes.get(sandbox_id)
        containers = tuple(self._inventory.containers_of(sandbox_id))
        event = ContainerEvent(object_id, kind, self._last_ns, sandbox, containers)
        for queue in list(self._subscribers):
            if queue.qsize() >= _QUEUE_LIMIT:
                self._subscribers.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)
