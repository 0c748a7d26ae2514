"""Sandboxes: run, stop, remove. Intent first, every step can be taken back, the record last."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from cri_dockerd_py.core.container_stopping import LIVE_STATES, ContainerStopping
from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.core.gate import Gates
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.sandbox_making import Plan, SandboxMaking
from cri_dockerd_py.core.together import together
from cri_dockerd_py.core.undo import Undo
from cri_dockerd_py.errors import InvalidArgument, NotFound, Unavailable
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.ids import check_id
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.store.records import Records, StoredSandbox

_UNDO_WITHIN_S = 60.0


class Sandboxes:
    """The sandbox verbs of CRI."""

    def __init__(
        self,
        engines: Engines,
        inventory: Inventory,
        identities: Identities,
        attachments: PodAttachments,
        records: Records,
        gates: Gates,
        jobs: Jobs,
        stopping: ContainerStopping,
    ) -> None:
        self._engines = engines
        self._inventory = inventory
        self._identities = identities
        self._attachments = attachments
        self._making = SandboxMaking(attachments, records)
        self._records = records
        self._gates = gates
        self._jobs = jobs
        self._stopping = stopping

    # --- run

    async def run(self, spec: SandboxSpec) -> str:
        """Make and start a sandbox with its network; on any failure everything is taken back (RUN-06)."""
        side = self._engines.for_pod(spec.metadata.uid)
        side.health.require()
        side.check_handler(spec.runtime_handler)
        _check_hostname(spec)
        with self._identities.hold_sandbox(spec.metadata):
            plan = await self._jobs.finish_or_undo(self._making.begin(side, spec), self._making.forget)
            undo = Undo(_UNDO_WITHIN_S)
            try:
                record = await side.health.guard(self._making.make(plan, undo))
                _check_runs(record)
            except BaseException:
                await self._jobs.finish(self._take_back(plan, undo))
                raise
            self._inventory.put_sandbox(record)
        return record.id

    async def _take_back(self, plan: Plan, undo: Undo) -> None:
        if await undo.run():
            await self._records.clear_intent(plan.intent_id)
        else:
            self._records.leftovers.add(plan.side.name)

    # --- stop

    async def stop(self, sandbox_id: str) -> None:
        """Kill what runs, release the network; OK when unknown or done already (STP-01 to STP-04, RCR-30 b)."""
        if (record := self._find(sandbox_id)) is None:
            return
        if self._is_stopped(record):
            return
        self._side(record).health.require()
        await self._jobs.shared(("stop sandbox", record.id), partial(self._stop, record.id))

    def _is_stopped(self, record: SandboxRecord) -> bool:
        over = record.state is SandboxState.NOTREADY and not record.pid
        return over and not self._live_containers(record.id) and not self._attachments.is_held(record.id)

    def _live_containers(self, sandbox_id: str) -> list[ContainerRecord]:
        return [record for record in self._inventory.containers_of(sandbox_id) if record.state in LIVE_STATES]

    async def _stop(self, sandbox_id: str) -> None:
        async with self._gates.end(sandbox_id):
            record = self._inventory.sandboxes.get(sandbox_id)
            if record is not None:
                await self._side(record).health.guard(self._end(record))

    async def _end(self, record: SandboxRecord) -> None:
        """Kill the containers beside CNI DEL, and the pause process after those who need it.

        What cannot be ended keeps nothing else from its end.
        """
        release = self._attachments.release(record.id, record)
        if self._attachments.needs_process(record.id):
            await together(release, self._kill_containers(record))
            await self._kill_pause(record)
        else:
            await together(release, self._kill_processes(record))

    async def _kill_processes(self, record: SandboxRecord) -> None:
        try:
            await self._kill_containers(record)
        finally:
            await self._kill_pause(record)

    async def _kill_pause(self, record: SandboxRecord) -> None:
        await self._side(record).engine.sandboxes.kill(record.id)
        current = self._inventory.sandboxes.get(record.id)
        if current is not None:
            self._inventory.put_sandbox(replace(current, state=SandboxState.NOTREADY, pid=0))

    async def _kill_containers(self, record: SandboxRecord) -> None:
        side = self._side(record)
        await together(*(self._stopping.stop(side, one, 0) for one in self._live_containers(record.id)))

    # --- remove

    async def remove(self, sandbox_id: str) -> None:
        """Stop the sandbox if need be, remove it and its containers; OK when unknown (RMP-01 to RMP-05)."""
        if (record := self._find(sandbox_id)) is None:
            return
        if record.id not in self._inventory.tombstones:
            self._side(record).health.require()
        await self._jobs.shared(("remove sandbox", record.id), partial(self._remove, record.id))

    async def _remove(self, sandbox_id: str) -> None:
        async with self._gates.end(sandbox_id):
            record = self._inventory.sandboxes.get(sandbox_id)
            if record is None:
                return
            if sandbox_id not in self._inventory.tombstones:
                await self._side(record).health.guard(self._erase(record))
            await self._forget(record)

    async def _erase(self, record: SandboxRecord) -> None:
        if not self._is_stopped(record):
            await self._end(record)
        engine = self._side(record).engine
        containers = self._inventory.containers_of(record.id)
        await together(*(engine.containers.remove(container.id) for container in containers))
        for container in containers:
            self._inventory.drop_container(container.id)
        await engine.sandboxes.remove(record.id)

    async def _forget(self, record: SandboxRecord) -> None:
        await self._records.forget_sandbox(record.id)
        for container in self._inventory.containers_of(record.id):
            self._inventory.drop_container(container.id)
        self._inventory.drop_sandbox(record.id)

    # --- the rest

    async def update_resources(self, sandbox_id: str, overhead: Resources | None, resources: Resources | None) -> None:
        """Take note of a resized pod: kubelet sizes the pod's cgroup itself, nothing else has to change (UPS-01)."""
        record = self._inventory.sandbox(sandbox_id)
        work = partial(self._update_resources, record.id, overhead, resources)
        await self._jobs.finish_inside(self._gates.use(record.id), work)

    async def _update_resources(self, sandbox_id: str, overhead: Resources | None, resources: Resources | None) -> None:
        record = self._inventory.sandbox(sandbox_id)
        spec = replace(
            record.spec, overhead=overhead or record.spec.overhead, resources=resources or record.spec.resources
        )
        await self._records.put_sandbox(StoredSandbox(record.id, record.engine, record.created_at_ns, spec))
        if (current := self._inventory.sandboxes.get(sandbox_id)) is not None:
            self._inventory.put_sandbox(replace(current, spec=spec))

    async def verbose(self, sandbox_id: str) -> Mapping[str, object]:
        """Return the engine's own view of the sandbox, and what its network plugins say, for people."""
        record = self._inventory.sandbox(sandbox_id)
        if record.id in self._inventory.tombstones:
            return {"sandboxID": record.id, "engine": record.engine, "tombstone": True}
        side = self._side(record)
        view = {**await side.health.guard(side.engine.sandboxes.verbose(record.id)), "engine": side.name}
        if record.state is SandboxState.READY and not record.spec.host_network:
            view["network"] = {"netns": record.netns_path, "check": await self._attachments.check(record)}
        return view

    def _side(self, record: SandboxRecord) -> Side:
        return self._engines.of(record.engine)

    def _find(self, sandbox_id: str) -> SandboxRecord | None:
        check_id("sandbox", sandbox_id)
        try:
            return self._inventory.sandbox(sandbox_id)
        except NotFound:
            return None


def _check_runs(record: SandboxRecord) -> None:
    """Refuse to show a sandbox as READY that has ended already: nobody was listening when its engine told of that."""
    if not os.path.exists(f"/proc/{record.pid}"):
        raise Unavailable(f"the first process of sandbox {record.id} ended while the pod was made; try again")


def _check_hostname(spec: SandboxSpec) -> None:
    """A pod on the node's network has the node's name (RUN-09)."""
    if spec.host_network and spec.hostname not in ("", node_name := socket.gethostname()):
        raise InvalidArgument(
            f"hostname {spec.hostname!r} cannot be had with host network, where it is {node_name!r}: leave it empty"
        )
