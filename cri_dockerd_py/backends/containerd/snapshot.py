"""The whole state of the engine: two lists, brought together; what is left over from before is dealt with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py.backends.base import EngineSnapshot
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.daemon_state import DaemonState
from cri_dockerd_py.backends.containerd.execs import Execs
from cri_dockerd_py.backends.containerd.exits import LATE_NEWS_WITHIN_S, Exits
from cri_dockerd_py.backends.containerd.fifos import Fifos
from cri_dockerd_py.backends.containerd.images import ContainerdImages
from cri_dockerd_py.backends.containerd.leftovers import Leftovers
from cri_dockerd_py.backends.containerd.objects import Held, NotOursError, Objects
from cri_dockerd_py.backends.containerd.oom_kills import OomKills
from cri_dockerd_py.backends.containerd.record_convert import (
    LOST_EXIT_CODE,
    LOST_REASON,
    container_record,
    sandbox_record,
)
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import RUNS, TaskInfo, Tasks, TaskState
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.logs.outputs import ContainerOutputs
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import SandboxRecord

_LOG = logging.getLogger(__name__)
#: Ends that take longer to deal with are told later, as events.
_SETTLE_WITHIN_S = 10.0


class ContainerdSnapshots:
    """Takes over what an earlier process, or containerd's CRI plugin, has left running."""

    def __init__(
        self,
        tasks: Tasks,
        objects: Objects,
        exits: Exits,
        execs: Execs,
        daemon: DaemonState,
        images: ContainerdImages,
        outputs: ContainerOutputs,
        statuses: Statuses,
        ooms: OomKills,
        fifos: Fifos,
        leftovers: Leftovers,
        engine_name: str,
    ) -> None:
        self._tasks = tasks
        self._objects = objects
        self._exits = exits
        self._execs = execs
        self._daemon = daemon
        self._images = images
        self._outputs = outputs
        self._statuses = statuses
        self._ooms = ooms
        self._fifos = fifos
        self._leftovers = leftovers
        self._engine_name = engine_name
        self._skipped: set[str] = set()

    async def take(self) -> EngineSnapshot:
        """Return all that is ours."""
        info = await self._daemon.engine_info(self._engine_name)
        images = await self._images.list()
        ran_before = dict(self._objects.running)
        records = await self._records()
        tasks = await self._tasks.list()
        with_task = frozenset(tasks)
        held = [self._objects.held[record.id] for record in records if record.id in self._objects.held]
        for item in held:
            if self._exits.is_starting(item.id):
                tasks.pop(item.id, None)  # what comes of it, its call will tell
        await asyncio.gather(*(self._take_back(item, tasks) for item in held if item.id in self._objects.given_up))
        await self._statuses.load(item for item in held if item.kind == labels.CONTAINER)
        await self._leftovers.find_layers(held)
        await asyncio.gather(*(self._take_over(item, tasks[item.id]) for item in held if item.id in tasks))
        await self._settle(held, tasks, ran_before)
        sandboxes: list[SandboxRecord] = []
        containers: list[ContainerRecord] = []
        for record in records:
            try:
                self._convert(record, tasks.get(record.id), sandboxes, containers)
            except NotOursError as error:
                self._skip(record.id, error)
        await self._leftovers.sweep({item.id for item in held}, with_task)
        return EngineSnapshot(info, tuple(sandboxes), tuple(containers), tuple(images))

    async def _records(self) -> list[Container]:
        """Return the records that are ours and make sense, and keep them in mind; what is gone is forgotten."""
        before = set(self._objects.held)
        records = []
        async for record in self._objects.every():
            try:
                self._objects.hold(self._objects.read(record))
            except NotOursError as error:
                self._skip(record.id, error)
            else:
                records.append(record)
        for object_id in before - {record.id for record in records}:
            if object_id in self._objects.held and not self._exits.is_busy(object_id):
                self._objects.forget(object_id)
        return records

    def _skip(self, object_id: str, error: Exception) -> None:
        if object_id not in self._skipped:
            self._skipped.add(object_id)
            _LOG.warning("container %s is left out: %s", object_id, error)

    async def _take_back(self, held: Held, tasks: dict[str, TaskInfo]) -> None:
        """Delete the task of a start that was given up, so that the start can be repeated."""
        if tasks.pop(held.id, None) is not None:
            await self._tasks.erase_after_failure(held.id)

    async def _take_over(self, held: Held, task: TaskInfo) -> None:
        """Go on with what runs: its process, its output, its OOM kills."""
        self._objects.without_task.discard(held.id)
        if self._exits.is_busy(held.id) or task.state not in RUNS | {TaskState.STOPPED}:
            return
        if task.state in RUNS:
            self._objects.running[held.id] = task.pid
        if held.kind != labels.CONTAINER:
            return
        if task.state in RUNS:
            self._ooms.watch(held.id, task.pid)
        if task.stdout and held.id not in self._outputs.known() and not self._statuses.known(held).finished_at_ns:
            stderr = Path(task.stderr) if task.stderr and not task.terminal else None
            try:
                await self._outputs.open(held.id, held.log_path, Path(task.stdout), stderr)
            except CriError as error:
                _LOG.warning("the output of container %s is lost: %s", held.id, error)

    async def _settle(self, held: Sequence[Held], tasks: Mapping[str, TaskInfo], ran_before: Mapping[str, int]) -> None:
        """Deal with ends that nobody has seen, and wait for them a while."""
        jobs = []
        lost = []
        for item in held:
            task = tasks.get(item.id)
            if task is not None and task.state is TaskState.STOPPED:
                jobs.append(self._exits.ended(item.id, task.exit_code, task.exited_at_ns))
            elif task is None and not self._exits.is_busy(item.id):
                lost.append(item)
        waiting = [job for job in jobs if job is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=_SETTLE_WITHIN_S)
        await asyncio.gather(*(self._note_lost(item, ran_before) for item in lost))

    async def _note_lost(self, held: Held, ran_before: Mapping[str, int]) -> None:
        """Put on file that a container that was started has no task any more."""
        if self._objects.running.get(held.id) != ran_before.get(held.id):
            return  # it was started while the lists were being read
        if held.kind == labels.CONTAINER and self._has_run(held):
            # Containerd throws a task away that ended in its absence; its shim still tries to tell how.
            if self._fifos.has_any(held.id) and await self._exits.late_news(held.id, LATE_NEWS_WITHIN_S):
                return
            await self._outputs.finish(held.id, _SETTLE_WITHIN_S)
            status = self._statuses.known(held)
            lost = replace(status, finished_at_ns=time.time_ns(), exit_code=LOST_EXIT_CODE, reason=LOST_REASON, pid=0)
            await self._statuses.note(held.id, lost)
        self._objects.running.pop(held.id, None)
        self._execs.container_ended(held.id)

    def _has_run(self, held: Held) -> bool:
        status = self._statuses.known(held)
        return bool(status.started_at_ns) and not status.finished_at_ns

    def _convert(
        self,
        record: Container,
        task: TaskInfo | None,
        sandboxes: list[SandboxRecord],
        containers: list[ContainerRecord],
    ) -> None:
        held = self._objects.held.get(record.id)
        if held is None:
            return
        if held.kind == labels.SANDBOX:
            sandboxes.append(sandbox_record(record, task, self._engine_name))
        else:
            status = self._statuses.known(held)
            containers.append(
                container_record(record, task, status, self._images.known, self._engine_name, held.layer_path)
            )
