"""Containers on containerd: a record with a snapshot, and a task while it runs."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends.base import ContainerRuntime, CreatedContainer, StartedProcess
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.any_value import read_json
from cri_dockerd_py.backends.containerd.container_prepare import ContainerPreparation, NewContainer
from cri_dockerd_py.backends.containerd.container_update import ContainerUpdate
from cri_dockerd_py.backends.containerd.exits import Exits
from cri_dockerd_py.backends.containerd.fifos import Fifos
from cri_dockerd_py.backends.containerd.objects import Held, Objects, taken
from cri_dockerd_py.backends.containerd.oom_kills import OomKills
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.plugin_files import PluginFiles
from cri_dockerd_py.backends.containerd.record_convert import FindImage, container_record, shown_image
from cri_dockerd_py.backends.containerd.sandbox_prepare import SnapshotsOf
from cri_dockerd_py.backends.containerd.shim_sharing import ShimSharing
from cri_dockerd_py.backends.containerd.start_errors import start_errors
from cri_dockerd_py.backends.containerd.status_file import ContainerStatus
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import RUNS, Tasks, time_ns
from cri_dockerd_py.backends.makings import Makings
from cri_dockerd_py.errors import CriError, NotFound, Unavailable, Unknown
from cri_dockerd_py.logs.outputs import ContainerOutputs
from cri_dockerd_py.model.container import ContainerRecord, ContainerSpec
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord
from cri_dockerd_py.model.signals import parse_signal

_KILL_WITHIN_S = 10.0
_START_FAILED_EXIT_CODE = 128
_START_FAILED = "StartError"
#: How containerd, runc, older releases of it, and crun refuse an id that they know.
_LEFT_OF_A_START = re.compile(
    r"task \w+: already exists|container with (given ID|id) (already )?exists|container `\w+` already exists"
    r"|mkdir \S+/io\.containerd\.runtime\.v2\.task/\S+: file exists"
)
_LEFT_PAUSES_S = (0.1, 0.4, 1.0, 2.0)


class ContainerdContainers(ContainerRuntime):
    """`find_image` looks an image up in memory."""

    def __init__(
        self,
        tasks: Tasks,
        objects: Objects,
        exits: Exits,
        makings: Makings,
        preparation: ContainerPreparation,
        updates: ContainerUpdate,
        outputs: ContainerOutputs,
        statuses: Statuses,
        ooms: OomKills,
        fifos: Fifos,
        sharing: ShimSharing,
        paths: EnginePaths,
        plugin_files: PluginFiles,
        snapshots_of: SnapshotsOf,
        find_image: FindImage,
        engine_name: str,
    ) -> None:
        self._tasks = tasks
        self._objects = objects
        self._exits = exits
        self._makings = makings
        self._preparation = preparation
        self._updates = updates
        self._outputs = outputs
        self._statuses = statuses
        self._ooms = ooms
        self._fifos = fifos
        self._sharing = sharing
        self._paths = paths
        self._plugin_files = plugin_files
        self._snapshots_of = snapshots_of
        self._find_image = find_image
        self._engine_name = engine_name
        #: How to mount what was prepared, until the container is started.
        self._rootfs: dict[str, Sequence[Mount]] = {}

    async def create(
        self, spec: ContainerSpec, image: ImageRecord, sandbox: SandboxRecord, *, log_path: str
    ) -> CreatedContainer:
        """Make the container."""
        name = labels.container_name(spec.metadata, sandbox.spec.metadata)
        new = NewContainer(secrets.token_hex(32), name, spec, image, sandbox, log_path)
        return await self._makings.run(name, self._create(new))

    async def _create(self, new: NewContainer) -> CreatedContainer:
        await self._objects.load()
        await self._make_way(new.name)
        with self._objects.announce(new.id):
            try:
                prepared = await self._preparation.prepare(new)
                made = await self._objects.create(prepared.record)
                self._objects.without_task.add(new.id)
            except BaseException:
                await self._preparation.undo(new)
                await self._remove_files(new.id)
                raise
        created_at_ns = time_ns(made.created_at)
        self._statuses.add(new.id, ContainerStatus(created_at_ns))
        self._rootfs[new.id] = prepared.rootfs
        image_ref, image_name = shown_image(new.image, new.image.id, new.spec.image.image)
        return CreatedContainer(
            id=new.id,
            created_at_ns=created_at_ns,
            image_ref=image_ref,
            image_name=image_name,
            stop_signal=new.spec.stop_signal or parse_signal(prepared.image.stop_signal),
            writable_layer_path=prepared.layer_path,
        )

    async def _make_way(self, name: str) -> None:
        """Remove the dead container that has the name, or refuse when it lives."""
        held = self._objects.named(name)
        if held is None:
            return
        if held.id in self._objects.running or self._exits.is_starting(held.id):
            raise taken(name)
        await self.remove(held.id)

    # --- start

    async def start(self, container_id: str) -> StartedProcess:
        """Start it with its log open; a failure is on file before it is raised."""
        held = self._existing(container_id)
        await self._statuses.load((held,))
        try:
            async with self._exits.starting(container_id), self._sharing.of(held.sandbox_id) as shim_is_shared:
                return await self._start(held, shim_is_shared)
        except Unavailable:
            raise
        except CriError as error:
            await self._note_failed_start(held, str(error))
            raise

    async def _start(self, held: Held, shim_is_shared: Callable[[], Awaitable[None]]) -> StartedProcess:
        """Start it; while a start that was cut off is still being taken back by its shim, try again."""
        for pause_s in _LEFT_PAUSES_S:
            try:
                return await self._start_once(held, shim_is_shared)
            except Unknown as error:
                if not _LEFT_OF_A_START.search(str(error)):
                    raise
                refusal = error
            await asyncio.sleep(pause_s)
        raise Unavailable(f"an earlier start of container {held.id} is still being taken back: {refusal}") from refusal

    async def _start_once(self, held: Held, shim_is_shared: Callable[[], Awaitable[None]]) -> StartedProcess:
        rootfs = self._rootfs.pop(held.id, None)
        if rootfs is None:
            rootfs = await self._snapshots_of(held.snapshotter).mounts(held.snapshot_key)
        stdio = await self._fifos.make(held.id, stdin=held.stdin, terminal=held.tty)
        stderr = Path(stdio.stderr) if stdio.stderr else None
        before = self._statuses.known(held)
        await self._outputs.open(held.id, held.log_path, Path(stdio.stdout), stderr)
        try:
            await shim_is_shared()
            with start_errors():
                shim = self._preparation.runtime_path(held)
                pid = await self._tasks.create(held.id, rootfs, stdio, runtime_path=shim)
                self._ooms.watch(held.id, pid)
                await self._tasks.start(held.id)
            started_at_ns = time.time_ns()
            await self._statuses.put(held.id, replace(before, started_at_ns=started_at_ns, pid=pid))
        except BaseException:
            await self._tasks.erase_after_failure(held.id)
            await self._outputs.forget(held.id)
            await self._statuses.note(held.id, before)
            raise
        self._objects.running[held.id] = pid
        return StartedProcess(pid, started_at_ns)

    async def _note_failed_start(self, held: Held, message: str) -> None:
        status = replace(
            self._statuses.known(held),
            finished_at_ns=time.time_ns(),
            exit_code=_START_FAILED_EXIT_CODE,
            reason=_START_FAILED,
            message=message,
        )
        await self._statuses.note(held.id, status)

    # --- end

    async def signal(self, container_id: str, signal_number: int) -> None:
        """Send a signal; after SIGKILL its end is waited for, for a while."""
        if signal_number == signal.SIGKILL:
            await self._exits.kill(container_id, _KILL_WITHIN_S)
        else:
            await self._exits.signal(container_id, int(signal_number))

    async def remove(self, container_id: str) -> None:
        """Remove task, snapshot, record and files, in an order in which nothing is lost sight of."""
        held = self._objects.held.get(container_id)
        await self._exits.erase(container_id)
        await self._outputs.forget(container_id)
        if held is not None and held.snapshot_key:
            await self._snapshots_of(held.snapshotter).remove(held.snapshot_key)
        if held is not None and held.by_plugin:
            await self._plugin_files.remove_container(container_id)
        await self._objects.delete(container_id)
        await self._remove_files(container_id)
        self._statuses.forget(container_id)
        self._ooms.forget(container_id)
        self._rootfs.pop(container_id, None)

    async def _remove_files(self, container_id: str) -> None:
        await self._fifos.remove_all(container_id)
        await asyncio.to_thread(shutil.rmtree, self._paths.containers / container_id, ignore_errors=True)

    # --- the rest

    async def update(self, container_id: str, resources: Resources) -> None:
        """Set limits, in the record and in what runs."""
        await self._updates.update(self._existing(container_id), resources)

    async def reopen_log(self, container_id: str) -> None:
        """Go on in a new log file."""
        await self._outputs.reopen(container_id)

    async def inspect(self, container_id: str) -> ContainerRecord | None:
        """Return the container as containerd knows it."""
        record = await self._objects.find(container_id)
        if record is None or self._objects.kind_of(record) != labels.CONTAINER:
            return None
        held = self._objects.held[container_id]
        task = await self._tasks.get(container_id)
        await self._statuses.load((held,))
        status = self._statuses.known(held)
        return container_record(record, task, status, self._find_image, self._engine_name, held.layer_path)

    async def discard_unborn(self, spec: ContainerSpec, sandbox: SandboxRecord) -> None:
        """Remove the container by its name if it has never run."""
        name = labels.container_name(spec.metadata, sandbox.spec.metadata)
        await self._makings.ended(name)
        await self._objects.load()
        held = self._objects.named(name)
        if held is None or held.kind != labels.CONTAINER or self._exits.is_busy(held.id):
            return
        await self._statuses.load((held,))
        status = self._statuses.known(held)
        if not status.started_at_ns and not status.finished_at_ns and held.id not in self._objects.running:
            await self.remove(held.id)

    async def verbose(self, container_id: str) -> Mapping[str, object]:
        """Return containerd's record and its task, without the environment, which may hold secrets."""
        record = await self._objects.find(container_id)
        if record is None:
            raise NotFound(f"container {container_id} is not known to containerd")
        held = self._objects.held[container_id]
        task = await self._tasks.get(container_id)
        spec = dict(read_json(record.spec))
        spec["process"] = {key: value for key, value in (spec.get("process") or {}).items() if key != "env"}
        return {
            "sandboxID": held.sandbox_id,
            "pid": task.pid if task is not None and task.state in RUNS else 0,
            "runtimeType": record.runtime.name,
            "snapshotter": record.snapshotter,
            "snapshotKey": record.snapshot_key,
            "labels": dict(record.labels),
            "runtimeSpec": spec,
        }

    def _existing(self, container_id: str) -> Held:
        held = self._objects.held.get(container_id)
        if held is None:
            raise NotFound(f"container {container_id} is not known to containerd: it was removed by another program")
        return held
