"""Sandboxes: run, stop, remove. Intent first, every step can be taken back, the record last."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from cri_dockerd_py.backends.base import CreatedSandbox, Engine
from cri_dockerd_py.core.gate import Gates
from cri_dockerd_py.core.health import EngineHealth
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.node_status import NodeStatus
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.together import together
from cri_dockerd_py.core.undo import Undo
from cri_dockerd_py.errors import InvalidArgument, NotFound
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.ids import check_id
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.store.records import Records, StoredSandbox

_LOG = logging.getLogger(__name__)
_UNDO_WITHIN_S = 60.0
_KILL_WITHIN_S = 30.0


class Sandboxes:
    """The sandbox verbs of CRI."""

    def __init__(
        self,
        engine: Engine,
        health: EngineHealth,
        inventory: Inventory,
        identities: Identities,
        attachments: PodAttachments,
        records: Records,
        gates: Gates,
        jobs: Jobs,
        status: NodeStatus,
    ) -> None:
        self._engine = engine
        self._health = health
        self._inventory = inventory
        self._identities = identities
        self._attachments = attachments
        self._records = records
        self._gates = gates
        self._jobs = jobs
        self._status = status

    # --- run

    async def run(self, spec: SandboxSpec) -> str:
        """Make and start a sandbox with its network; on any failure everything is taken back (RUN-06)."""
        self._health.require()
        self._check_handler(spec.runtime_handler)
        _check_hostname(spec)
        with self._identities.hold_sandbox(spec.metadata):
            intent_id = await self._records.begin_run_sandbox(spec)
            undo = Undo(_UNDO_WITHIN_S)
            try:
                return await self._health.guard(self._run(spec, intent_id, undo))
            except BaseException:
                await self._jobs.finish(self._take_back(intent_id, undo))
                raise

    def _check_handler(self, handler: str) -> None:
        known = [candidate.name for candidate in self._status.handlers()]
        if handler not in known:
            names = ", ".join(repr(name) for name in known if name) or "none"
            raise InvalidArgument(
                f"no runtime handler {handler!r} is configured on {self._engine.name}; configured are {names}"
            )

    async def _run(self, spec: SandboxSpec, intent_id: int, undo: Undo) -> str:
        undo.push("create sandbox", partial(self._engine.sandboxes.discard_unborn, spec))
        created = await self._engine.sandboxes.create(spec)
        undo.push("remove sandbox", partial(self._engine.sandboxes.remove, created.id))
        await self._records.note_object(intent_id, created.id)
        started = await self._engine.sandboxes.start(created.id, spec)
        ips: tuple[str, ...] = ()
        netns_path = ""
        if not spec.host_network:
            undo.push("release network", partial(self._attachments.release, created.id, None))
            ips, netns_path = await self._attachments.attach(created.id, spec, started.pid)
        record = self._record(created, spec, started.pid, ips, netns_path)
        stored = StoredSandbox(record.id, record.engine, record.created_at_ns, spec)
        undo.push("forget record", partial(self._records.forget_sandbox, created.id))
        await self._records.finish_sandbox(intent_id, stored)
        undo.keep()
        self._inventory.put_sandbox(record)
        return created.id

    def _record(
        self, created: CreatedSandbox, spec: SandboxSpec, pid: int, ips: tuple[str, ...], netns_path: str
    ) -> SandboxRecord:
        return SandboxRecord(
            id=created.id,
            spec=spec,
            state=SandboxState.READY,
            created_at_ns=created.created_at_ns,
            engine=self._engine.name,
            pid=pid,
            ips=ips,
            netns_path=netns_path,
        )

    async def _take_back(self, intent_id: int, undo: Undo) -> None:
        if await undo.run():
            await self._records.clear_intent(intent_id)
        else:
            self._records.leftovers = True

    # --- stop

    async def stop(self, sandbox_id: str) -> None:
        """Kill what runs, release the network; OK when unknown or done already (STP-01 to STP-04)."""
        if (record := self._find(sandbox_id)) is None:
            return
        if self._is_stopped(record):
            return
        self._health.require()
        await self._jobs.shared(("stop sandbox", record.id), partial(self._stop, record.id))

    def _is_stopped(self, record: SandboxRecord) -> bool:
        ended = all(c.state is not ContainerState.RUNNING for c in self._inventory.containers_of(record.id))
        return record.state is SandboxState.NOTREADY and ended and not self._attachments.is_held(record.id)

    async def _stop(self, sandbox_id: str) -> None:
        async with self._gates.end(sandbox_id):
            record = self._inventory.sandboxes.get(sandbox_id)
            if record is not None:
                await self._health.guard(self._end(record))

    async def _end(self, record: SandboxRecord) -> None:
        """Kill the containers and the pause process, beside CNI DEL where the namespace is pinned."""
        if not self._attachments.pinned(record.id):
            await self._attachments.release(record.id, record)
        await together(self._attachments.release(record.id, record), self._kill_processes(record))

    async def _kill_processes(self, record: SandboxRecord) -> None:
        running = [c.id for c in self._inventory.containers_of(record.id) if c.state is ContainerState.RUNNING]
        await together(*(self._kill_container(container_id) for container_id in running))
        await self._engine.sandboxes.kill(record.id)
        current = self._inventory.sandboxes.get(record.id)
        if current is not None:
            self._inventory.put_sandbox(replace(current, state=SandboxState.NOTREADY, pid=0))

    async def _kill_container(self, container_id: str) -> None:
        await self._engine.containers.signal(container_id, signal.SIGKILL)
        if not await self._inventory.wait_ended(container_id, _KILL_WITHIN_S):
            _LOG.warning("container %s has not ended %d s after SIGKILL", container_id, _KILL_WITHIN_S)

    # --- remove

    async def remove(self, sandbox_id: str) -> None:
        """Stop the sandbox if need be, remove it and its containers; OK when unknown (RMP-01 to RMP-05)."""
        if (record := self._find(sandbox_id)) is None:
            return
        self._health.require()
        await self._jobs.shared(("remove sandbox", record.id), partial(self._remove, record.id))

    async def _remove(self, sandbox_id: str) -> None:
        async with self._gates.end(sandbox_id):
            record = self._inventory.sandboxes.get(sandbox_id)
            if record is not None:
                await self._health.guard(self._erase(record))

    async def _erase(self, record: SandboxRecord) -> None:
        if not self._is_stopped(record):
            await self._end(record)
        containers = self._inventory.containers_of(record.id)
        await together(*(self._engine.containers.remove(container.id) for container in containers))
        for container in containers:
            self._inventory.drop_container(container.id)
        await self._engine.sandboxes.remove(record.id)
        await self._records.forget_sandbox(record.id)
        self._inventory.drop_sandbox(record.id)

    # --- the rest

    async def update_resources(self, sandbox_id: str, overhead: Resources | None, resources: Resources | None) -> None:
        """Take note of a resized pod: kubelet sizes the pod's cgroup itself, nothing else has to change (UPS-01)."""
        record = self._inventory.sandbox(sandbox_id)
        spec = replace(
            record.spec, overhead=overhead or record.spec.overhead, resources=resources or record.spec.resources
        )
        await self._records.put_sandbox(StoredSandbox(record.id, record.engine, record.created_at_ns, spec))
        self._inventory.put_sandbox(replace(record, spec=spec))

    async def verbose(self, sandbox_id: str) -> Mapping[str, object]:
        """Return the engine's own view of the sandbox, and what its network plugins say, for people."""
        record = self._inventory.sandbox(sandbox_id)
        view = dict(await self._health.guard(self._engine.sandboxes.verbose(record.id)))
        if record.state is SandboxState.READY and not record.spec.host_network:
            view["network"] = {"netns": record.netns_path, "check": await self._attachments.check(record)}
        return view

    def _find(self, sandbox_id: str) -> SandboxRecord | None:
        check_id("sandbox", sandbox_id)
        try:
            return self._inventory.sandbox(sandbox_id)
        except NotFound:
            return None


def _check_hostname(spec: SandboxSpec) -> None:
    """A pod on the node's network has the node's name (RUN-09)."""
    if spec.host_network and spec.hostname not in ("", node_name := socket.gethostname()):
        raise InvalidArgument(
            f"hostname {spec.hostname!r} cannot be had with host network, where it is {node_name!r}: leave it empty"
        )
