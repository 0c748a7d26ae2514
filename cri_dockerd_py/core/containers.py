"""Containers: create, start, stop, remove, and changes to running ones."""

from __future__ import annotations

import asyncio
import posixpath
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from cri_dockerd_py.backends.base import CreatedContainer, StartedProcess
from cri_dockerd_py.core.container_stopping import LIVE_STATES, ContainerStopping
from cri_dockerd_py.core.container_user import read_user
from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.core.gate import Gates
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.images import Images
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.stored_container import stored
from cri_dockerd_py.core.undo import Undo
from cri_dockerd_py.errors import CriError, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from cri_dockerd_py.logs.log_file import make_directory
from cri_dockerd_py.model.container import ContainerRecord, ContainerSpec, ContainerState
from cri_dockerd_py.model.ids import check_id
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.model.security import NamespaceMode
from cri_dockerd_py.store.records import Records, without_secrets

_UNDO_WITHIN_S = 60.0
_START_FAILED_EXIT_CODE = 128


class Containers:
    """The container verbs of CRI."""

    def __init__(
        self,
        engines: Engines,
        inventory: Inventory,
        identities: Identities,
        images: Images,
        records: Records,
        gates: Gates,
        jobs: Jobs,
        stopping: ContainerStopping,
    ) -> None:
        self._engines = engines
        self._inventory = inventory
        self._identities = identities
        self._images = images
        self._records = records
        self._gates = gates
        self._jobs = jobs
        self._stopping = stopping

    # --- create

    async def create(self, sandbox_id: str, spec: ContainerSpec, log_directory: str = "") -> str:
        """Make a container in a READY sandbox; on any failure nothing is left (CRE-02, CRE-07).

        `log_directory` is the one that the caller knows: of a pod that another program made, nobody else does.
        """
        sandbox = self._inventory.sandbox(sandbox_id)
        side = self._engines.of(sandbox.engine)
        side.health.require()
        async with self._gates.use(sandbox.id):
            sandbox = self._ready_sandbox(sandbox.id)
            if log_directory:
                sandbox = replace(sandbox, spec=replace(sandbox.spec, log_directory=log_directory))
            spec = self._checked_namespaces(spec, sandbox)
            image = self._images.require(side.name, spec.image.image)
            spec = replace(spec, mounts=self._images.resolve_mounts(side.name, spec.mounts))
            with self._identities.hold_container(sandbox.id, spec.metadata):
                begin = self._records.begin_create_container(sandbox.id, spec, side.name)
                intent_id = await self._jobs.finish_or_undo(begin, self._records.clear_intent)
                undo = Undo(_UNDO_WITHIN_S)
                try:
                    return await side.health.guard(self._create(side, spec, image, sandbox, intent_id, undo))
                except BaseException:
                    await self._jobs.finish(self._take_back(side, intent_id, undo))
                    raise

    async def _create(
        self,
        side: Side,
        spec: ContainerSpec,
        image: ImageRecord,
        sandbox: SandboxRecord,
        intent_id: int,
        undo: Undo,
    ) -> str:
        log_path = await asyncio.to_thread(_prepare_log_path, sandbox.spec.log_directory, spec.log_path)
        undo.push("create container", partial(side.engine.containers.discard_unborn, spec, sandbox))
        created = await side.engine.containers.create(spec, image, sandbox, log_path=log_path)
        undo.push("remove container", partial(side.engine.containers.remove, created.id))
        record = self._record(created, spec, image, sandbox, log_path)
        undo.push("forget record", partial(self._records.forget_containers, [created.id]))
        await self._records.finish_container(intent_id, stored(record))
        undo.keep()
        self._inventory.put_container(record)
        return created.id

    def _record(
        self,
        created: CreatedContainer,
        spec: ContainerSpec,
        image: ImageRecord,
        sandbox: SandboxRecord,
        log_path: str,
    ) -> ContainerRecord:
        return ContainerRecord(
            id=created.id,
            sandbox_id=sandbox.id,
            spec=without_secrets(spec),
            state=ContainerState.CREATED,
            created_at_ns=created.created_at_ns,
            engine=sandbox.engine,
            image_id=image.id,
            image_ref=created.image_ref,
            image_name=created.image_name,
            log_path=log_path,
            stop_signal=created.stop_signal,
            resources=spec.resources,
            writable_layer_path=created.writable_layer_path,
        )

    async def _take_back(self, side: Side, intent_id: int, undo: Undo) -> None:
        if await undo.run():
            await self._records.clear_intent(intent_id)
        else:
            self._records.leftovers.add(side.name)

    def _ready_sandbox(self, sandbox_id: str) -> SandboxRecord:
        sandbox = self._inventory.sandbox(sandbox_id)
        if sandbox.state is not SandboxState.READY:
            raise FailedPrecondition(f"sandbox {sandbox.id} is not ready: nothing can be created or started in it")
        return sandbox

    def _checked_namespaces(self, spec: ContainerSpec, sandbox: SandboxRecord) -> ContainerSpec:
        """Return the spec with the full id of the container whose PID namespace it shares."""
        if spec.security.privileged and not sandbox.spec.security.privileged:
            raise InvalidArgument(
                f"container {spec.metadata.name!r} is privileged and its sandbox {sandbox.id} is not: "
                f"set privileged in the sandbox's security context"
            )
        options = spec.security.namespaces
        if options.pid is not NamespaceMode.TARGET:
            return spec
        target = self._inventory.container(options.target_id)
        if target.sandbox_id != sandbox.id or target.state is not ContainerState.RUNNING:
            raise InvalidArgument(f"target container {target.id} of the PID namespace must run in sandbox {sandbox.id}")
        return replace(spec, security=replace(spec.security, namespaces=replace(options, target_id=target.id)))

    # --- start

    async def start(self, container_id: str) -> None:
        """Start a CREATED container; a failure leaves it EXITED with StartError (STT-01 to STT-03).

        A caller that goes away lets nobody in before the engine is done; one that asks again gets that start's outcome,
        which a second one beside it does not.
        """
        record = self._inventory.container(container_id)
        self._side(record).health.require()
        gate = self._start_gate(record.sandbox_id, record.id)
        await self._jobs.resume_inside(("start container", record.id), gate, partial(self._start, record.id))

    @asynccontextmanager
    async def _start_gate(self, sandbox_id: str, container_id: str) -> AsyncIterator[None]:
        async with self._gates.use(sandbox_id), self._gates.end(container_id):
            yield

    async def _start(self, container_id: str) -> None:
        record = self._inventory.container(container_id)
        if record.state is not ContainerState.CREATED:
            raise FailedPrecondition(
                f"container {record.id} is {record.state.name}: only a CREATED container can be started"
            )
        self._ready_sandbox(record.sandbox_id)
        started = await self._started(record)
        user = await asyncio.to_thread(read_user, started.pid)
        current = self._inventory.containers.get(record.id)
        if current is None:
            return
        ended = current.state is ContainerState.EXITED
        current = replace(
            current,
            state=ContainerState.EXITED if ended else ContainerState.RUNNING,
            pid=0 if ended else started.pid,
            started_at_ns=started.started_at_ns or current.started_at_ns,
            user=user or current.user,
            writable_layer_path=started.writable_layer_path or current.writable_layer_path,
        )
        await self._take_note(current)

    async def _started(self, record: ContainerRecord) -> StartedProcess:
        side = self._side(record)
        self._inventory.starting.add(record.id)
        try:
            return await side.health.guard(side.engine.containers.start(record.id))
        except Unavailable:
            raise
        except CriError as error:
            await self._start_failed(record, str(error))
            raise
        finally:
            self._inventory.starting.discard(record.id)

    async def _start_failed(self, record: ContainerRecord, message: str) -> None:
        failed = replace(
            self._inventory.containers.get(record.id, record),
            state=ContainerState.EXITED,
            finished_at_ns=time.time_ns(),
            exit_code=_START_FAILED_EXIT_CODE,
            reason="StartError",
            message=message,
        )
        await self._take_note(failed)

    # --- stop

    async def stop(self, container_id: str, timeout_s: int) -> None:
        """End a running container: its stop signal, the grace period, SIGKILL; OK when it has ended (STO-01 to 07)."""
        record = self._find(container_id)
        if record is not None and record.id in self._inventory.starting:
            async with self._gates.use(record.id):
                record = self._find(record.id)
        if record is not None and record.state in LIVE_STATES:
            await self._stopping.stop(self._side(record), record, timeout_s)

    # --- remove

    async def remove(self, container_id: str) -> None:
        """Remove a container in any state, killing it first; its log stays (RMC-01, RMC-02)."""
        if (record := self._find(container_id)) is None:
            return
        if record.id not in self._inventory.tombstones:
            self._side(record).health.require()
        await self._jobs.shared(("remove container", record.id), partial(self._remove, record.id))

    async def _remove(self, container_id: str) -> None:
        async with self._gates.end(container_id):
            record = self._inventory.containers.get(container_id)
            if record is None:
                return
            if container_id not in self._inventory.tombstones:
                side = self._side(record)
                await side.health.guard(side.engine.containers.remove(container_id))
            await self._records.forget_containers([container_id])
            self._inventory.drop_container(container_id)

    # --- changes

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        """Set the given limits, leave the others alone (UCR-01 to UCR-06)."""
        record = self._inventory.container(container_id)
        if record.id not in self._inventory.tombstones:
            self._side(record).health.require()
        # As one job: a caller that goes away must not leave the limits and the record apart.
        await self._jobs.finish_inside(
            self._gates.end(record.id), partial(self._update_resources, record.id, resources)
        )

    async def _update_resources(self, container_id: str, resources: Resources) -> None:
        record = self._inventory.container(container_id)
        if record.state is not ContainerState.EXITED:
            side = self._side(record)
            await side.health.guard(side.engine.containers.update(record.id, resources))
        record = self._inventory.container(record.id)
        record = replace(record, resources=record.resources.merged(resources))
        await self._take_note(record)

    async def reopen_log(self, container_id: str) -> None:
        """Let a running container's log go on in a new file (LOG-20, LOG-21)."""
        record = self._running(container_id)
        await self._side(record).engine.containers.reopen_log(record.id)

    async def checkpoint(self, container_id: str, location: str, timeout_s: int) -> None:
        """Write a checkpoint of a running container to `location` (CKP-01 to CKP-04)."""
        if timeout_s < 0:
            raise InvalidArgument(f"timeout {timeout_s} is negative: give seconds, or 0 for the default")
        record = self._running(container_id)
        side = self._side(record)
        side.health.require()
        within_s = float(timeout_s or 120)
        await side.health.guard(side.engine.processes.checkpoint(record.id, location, within_s=within_s))

    async def verbose(self, container_id: str) -> Mapping[str, object]:
        """Return the engine's own view of the container, for people."""
        record = self._inventory.container(container_id)
        if record.id in self._inventory.tombstones:
            return {"sandboxID": record.sandbox_id, "engine": record.engine, "tombstone": True}
        side = self._side(record)
        return {**await side.health.guard(side.engine.containers.verbose(record.id)), "engine": side.name}

    async def _take_note(self, record: ContainerRecord) -> None:
        """Show what has become of a container, and then put it on record: it is so even if that fails."""
        self._inventory.put_container(record)
        await self._records.put_container(stored(record))

    def _side(self, record: ContainerRecord) -> Side:
        return self._engines.of(record.engine)

    def _running(self, container_id: str) -> ContainerRecord:
        record = self._inventory.container(container_id)
        if record.state is not ContainerState.RUNNING:
            raise FailedPrecondition(f"container {record.id} is {record.state.name}, not running")
        return record

    def _find(self, container_id: str) -> ContainerRecord | None:
        check_id("container", container_id)
        try:
            return self._inventory.container(container_id)
        except NotFound:
            return None


def _prepare_log_path(directory: str, relative: str) -> str:
    """Return the absolute log path with its directory made, or empty when output is to be discarded (CRE-14)."""
    if not directory or not relative:
        return ""
    path = posixpath.join(directory, relative)
    make_directory(Path(path))
    return path
