"""Keeps memory in step with an engine: follows its events, resyncs after gaps and every few minutes, pings it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from cri_dockerd_py.backends.base import (
    Connected,
    Disconnected,
    EngineEvent,
    ImagesChanged,
    ObjectAppeared,
    ObjectGone,
    ProcessExited,
    ProcessStarted,
)
from cri_dockerd_py.core.drift import Drift
from cri_dockerd_py.core.engines import Side
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.image_disk import ImageDisk
from cri_dockerd_py.core.images import Images
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.core.recovery import Recovery
from cri_dockerd_py.core.stored_container import stored
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxState
from cri_dockerd_py.store.records import Records

_LOG = logging.getLogger(__name__)
_PING_EVERY_S = 5.0
_RETRY_RESYNC_S = 2.0
_IMAGES_SETTLE_S = 0.5
#: A sandbox that another program starts gets its address a little later; it is not listed before (NET-11).
_FOREIGN_NETWORK_TRIES = 120
_FOREIGN_NETWORK_PAUSE_S = 0.5


class Feed:
    """Follows one engine for the life of the service."""

    def __init__(
        self,
        side: Side,
        inventory: Inventory,
        identities: Identities,
        images: Images,
        disk: ImageDisk,
        recovery: Recovery,
        records: Records,
        jobs: Jobs,
        resync_every_s: float,
        observers: CoreObservers,
    ) -> None:
        self._side = side
        self._engine = side.engine
        self._health = side.health
        self._inventory = inventory
        self._identities = identities
        self._images = images
        self._disk = disk
        self._recovery = recovery
        self._records = records
        self._jobs = jobs
        self._resync_every_s = resync_every_s
        self._observers = observers
        self._drift = Drift()
        self._resync_again = False
        self._images_again = False

    async def follow(self) -> None:
        """Apply events as they come."""
        async for event in self._engine.events.events():
            try:
                await self._apply(event)
            except CriError as error:
                _LOG.warning("an event of %s could not be applied: %s", self._engine.name, error)

    async def watch(self) -> None:
        """Find out early that the engine hangs, and that it is back."""
        while True:
            await asyncio.sleep(_PING_EVERY_S)
            try:
                await self._engine.events.ping()
            except CriError as error:
                self._lost(str(error))
            else:
                if not self._health.ready:
                    self._jobs.spawn(("resync", self._side.name), self._resync_until_done)
                elif self._side.name in self._records.leftovers:
                    self._jobs.spawn(("leftovers", self._side.name), self._recovery.clear_leftovers)

    async def resync_regularly(self) -> None:
        """Prove every few minutes that memory is right."""
        while True:
            await asyncio.sleep(self._resync_every_s)
            if self._health.ready:
                await self._jobs.shared(("resync", self._side.name), self._resync_until_done)

    async def _apply(self, event: EngineEvent) -> None:
        if isinstance(event, ProcessStarted | ProcessExited | ObjectAppeared | ObjectGone):
            self._drift.told(event.id)
        match event:
            case Connected():
                self._drift.opened()
                self._resync_again = True
                self._jobs.spawn(("resync", self._side.name), self._resync_until_done)
            case Disconnected():
                self._drift.broken()
                self._observers.event_gap()
                self._lost(event.reason)
            case ProcessStarted():
                self._started(event)
            case ProcessExited():
                await self._exited(event)
            case ObjectAppeared():
                self._look_at(event.id)
            case ObjectGone():
                await self._gone(event.id)
            case ImagesChanged():
                self._images_again = True
                self._jobs.spawn(("images", self._side.name), self._refresh_images)

    async def _resync_until_done(self) -> None:
        """Compare until that succeeds; what was begun before a new event stream proves nothing of the time between."""
        self._resync_again = True
        while self._resync_again:
            self._resync_again = False
            if not await self._try_resync():
                self._resync_again = True
                await asyncio.sleep(_RETRY_RESYNC_S)

    async def _try_resync(self) -> bool:
        comparison = self._drift.begin()
        try:
            drifted = self._drift.compared(comparison, await self._recovery.resync())
            self._observers.resync(len(drifted))
            if drifted:
                _LOG.warning("%s did not tell of changes of %s", self._engine.name, ", ".join(sorted(drifted)))
            await self._disk.measure(self._side)
        except (CriError, OSError) as error:  # of a full disk, say: the service goes on, and tries again
            self._lost(str(error))
            return False
        self._health.up()
        return True

    def _lost(self, reason: str) -> None:
        """Writes are refused from now on; what was seen last is put on record, should we be restarted meanwhile."""
        if self._health.ready:
            self._jobs.spawn(("remember", self._side.name), self._recovery.remember)
        self._health.down(reason)

    def _started(self, event: ProcessStarted) -> None:
        record = self._inventory.containers.get(event.id)
        if record is None:
            self._look_at(event.id)
        elif record.state is ContainerState.CREATED and event.id not in self._inventory.starting:
            running = replace(record, state=ContainerState.RUNNING, started_at_ns=event.at_ns)
            self._inventory.put_container(running)
            self._jobs.spawn(("inspect", event.id), lambda: self._learn_pid(event.id))

    def _look_at(self, object_id: str) -> None:
        if object_id not in self._inventory.sandboxes and object_id not in self._inventory.containers:
            self._jobs.spawn(("inspect", object_id), lambda: self._appeared(object_id))

    async def _exited(self, event: ProcessExited) -> None:
        self._observers.event_lag(max(0.0, (time.time_ns() - event.at_ns) / 1e9))
        sandbox = self._inventory.sandboxes.get(event.id)
        if sandbox is not None:
            self._inventory.put_sandbox(replace(sandbox, state=SandboxState.NOTREADY, pid=0))
        else:
            self._inventory.mark_exited(
                event.id, event.exit_code, event.at_ns, oom_killed=event.oom_killed, reason=event.reason
            )
            record = self._inventory.containers.get(event.id)
            if record is not None:
                await self._records.put_container(stored(record))

    async def _gone(self, object_id: str) -> None:
        """A container is forgotten; a sandbox that nobody asked us to remove stays NOTREADY until kubelet does."""
        if object_id in self._inventory.tombstones:
            return
        self._inventory.drop_container(object_id)
        sandbox = self._inventory.sandboxes.get(object_id)
        if sandbox is not None:
            self._inventory.put_sandbox(replace(sandbox, state=SandboxState.NOTREADY, pid=0))

    async def _appeared(self, object_id: str) -> None:
        """List what another program made with our labels; what we are making ourselves is put by its own call."""
        container = await self._engine.containers.inspect(object_id)
        if container is not None:
            if not self._identities.container_in_making(container.sandbox_id, container.spec.metadata):
                self._inventory.put_container(container)
            return
        for _ in range(_FOREIGN_NETWORK_TRIES):
            sandbox = await self._engine.sandboxes.inspect(object_id)
            if sandbox is None or self._identities.sandbox_in_making(sandbox.spec.metadata):
                return
            if sandbox.state is not SandboxState.READY:
                return
            complete = self._recovery.completed_sandbox(sandbox, None)
            if complete.state is SandboxState.READY:
                self._inventory.put_sandbox(complete)
                return
            await asyncio.sleep(_FOREIGN_NETWORK_PAUSE_S)

    async def _learn_pid(self, container_id: str) -> None:
        """Complete the record of a container that another program has started."""
        seen = await self._engine.containers.inspect(container_id)
        record = self._inventory.containers.get(container_id)
        if seen is not None and record is not None and record.state is seen.state is ContainerState.RUNNING:
            self._inventory.put_container(replace(record, pid=seen.pid, started_at_ns=seen.started_at_ns))

    async def _refresh_images(self) -> None:
        """Read until nothing has changed since a reading began: what it did not see may be told of meanwhile."""
        while self._images_again:
            await asyncio.sleep(_IMAGES_SETTLE_S)
            self._images_again = False
            await self._images.refresh(self._side.name)
