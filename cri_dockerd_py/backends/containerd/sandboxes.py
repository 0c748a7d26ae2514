"""Sandboxes on containerd: a record, and a task of a pause process that holds the pod's namespaces."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import ClassVar

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py.backends.base import CreatedSandbox, SandboxRuntime, StartedProcess
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.any_value import read_json
from cri_dockerd_py.backends.containerd.exits import Exits
from cri_dockerd_py.backends.containerd.image_volumes import ImageVolumes
from cri_dockerd_py.backends.containerd.objects import NotOursError, Objects, taken
from cri_dockerd_py.backends.containerd.plugin_files import PluginFiles
from cri_dockerd_py.backends.containerd.record_convert import sandbox_record
from cri_dockerd_py.backends.containerd.sandbox_files import SandboxFiles
from cri_dockerd_py.backends.containerd.sandbox_prepare import SandboxPreparation
from cri_dockerd_py.backends.containerd.start_errors import start_errors
from cri_dockerd_py.backends.containerd.tasks import RUNS, Stdio, Tasks, time_ns
from cri_dockerd_py.backends.makings import Makings
from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec

_KILL_WITHIN_S = 30.0


class ContainerdSandboxes(SandboxRuntime):
    """Network namespaces are handed in, so that CNI runs beside the start."""

    takes_netns: ClassVar[bool] = True

    def __init__(
        self,
        tasks: Tasks,
        objects: Objects,
        exits: Exits,
        makings: Makings,
        preparation: SandboxPreparation,
        files: SandboxFiles,
        volumes: ImageVolumes,
        plugin_files: PluginFiles,
        engine_name: str,
    ) -> None:
        self._tasks = tasks
        self._objects = objects
        self._exits = exits
        self._makings = makings
        self._preparation = preparation
        self._files = files
        self._volumes = volumes
        self._plugin_files = plugin_files
        self._engine_name = engine_name

    async def create(self, spec: SandboxSpec, *, netns_path: str = "", sandbox_id: str = "") -> CreatedSandbox:
        """Make the record, and the files that all containers of the pod get."""
        name = labels.sandbox_name(spec.metadata)
        sandbox_id = sandbox_id or secrets.token_hex(32)
        return await self._makings.run(name, self._create(name, sandbox_id, spec, netns_path))

    async def _create(self, name: str, sandbox_id: str, spec: SandboxSpec, netns_path: str) -> CreatedSandbox:
        await self._objects.load()
        await self._make_way(name)
        with self._objects.announce(sandbox_id):
            try:
                made = await self._make(name, sandbox_id, spec, netns_path)
                self._objects.without_task.add(sandbox_id)
            except BaseException:
                await self._preparation.undo(sandbox_id)
                raise
        return CreatedSandbox(sandbox_id, time_ns(made.created_at))

    async def _make(self, name: str, sandbox_id: str, spec: SandboxSpec, netns_path: str) -> Container:
        """Make record and files beside each other; where one fails, there is no record."""
        record = await self._preparation.record(name, sandbox_id, spec, netns_path)
        making = asyncio.ensure_future(self._objects.create(record))
        try:
            await self._preparation.make_files(sandbox_id, spec)
            return await making
        except BaseException:
            await asyncio.gather(making, return_exceptions=True)
            await self._objects.delete(sandbox_id)
            raise

    async def _make_way(self, name: str) -> None:
        """Remove the dead sandbox that has the name, or refuse when it lives."""
        held = self._objects.named(name)
        if held is None:
            return
        task = await self._tasks.get(held.id)
        if self._exits.is_starting(held.id) or (task is not None and task.state in RUNS):
            raise taken(name)
        await self.remove(held.id)

    async def start(self, sandbox_id: str, spec: SandboxSpec) -> StartedProcess:
        """Start the pause process."""
        held = self._objects.held.get(sandbox_id)
        if held is None:
            raise NotFound(f"sandbox {sandbox_id} is not known to containerd: it was removed by another program")
        rootfs = await self._preparation.mounts(held)
        runtime_path = self._preparation.runtime_path(spec.runtime_handler)
        async with self._exits.starting(sandbox_id):
            try:
                with start_errors():
                    pid = await self._tasks.create(sandbox_id, rootfs, Stdio(), runtime_path=runtime_path)
                    await self._tasks.start(sandbox_id)
            except BaseException:
                await self._tasks.erase_after_failure(sandbox_id)
                raise
            self._objects.running[sandbox_id] = pid
        return StartedProcess(pid, time.time_ns())

    async def kill(self, sandbox_id: str) -> None:
        """Kill the pause process, and let go of what was mounted for the pod's containers."""
        if not await self._exits.kill(sandbox_id, _KILL_WITHIN_S):
            raise FailedPrecondition(
                f"the pause process of sandbox {sandbox_id} has not ended {_KILL_WITHIN_S:.0f} s after SIGKILL; "
                "it is stuck in the kernel, try again"
            )
        await self._files.release_mounts(sandbox_id)

    async def remove(self, sandbox_id: str) -> None:
        """Remove task, snapshots, record and files, in an order in which nothing is lost sight of."""
        await self._exits.erase(sandbox_id)
        held = self._objects.held.get(sandbox_id)
        if held is not None:
            await self._preparation.release(held)
            if held.by_plugin:
                await self._plugin_files.remove_sandbox(sandbox_id)
        await self._volumes.release(sandbox_id)
        await self._objects.delete(sandbox_id)
        await self._files.remove(sandbox_id)

    async def inspect(self, sandbox_id: str) -> SandboxRecord | None:
        """Return the sandbox as containerd knows it."""
        record = await self._objects.find(sandbox_id)
        if record is None or self._objects.kind_of(record) != labels.SANDBOX:
            return None
        try:
            return sandbox_record(record, await self._tasks.get(sandbox_id), self._engine_name)
        except NotOursError:
            return None

    async def discard_unborn(self, spec: SandboxSpec) -> None:
        """Remove the sandbox by its name unless it runs."""
        name = labels.sandbox_name(spec.metadata)
        await self._makings.ended(name)
        await self._objects.load()
        held = self._objects.named(name)
        if held is None or held.kind != labels.SANDBOX:
            return
        task = await self._tasks.get(held.id)
        if task is None or task.state not in RUNS:
            await self.remove(held.id)

    async def verbose(self, sandbox_id: str) -> Mapping[str, object]:
        """Return containerd's record and its task."""
        record = await self._objects.find(sandbox_id)
        if record is None:
            raise NotFound(f"sandbox {sandbox_id} is not known to containerd")
        task = await self._tasks.get(sandbox_id)
        return {
            "sandboxID": sandbox_id,
            "pid": task.pid if task is not None and task.state in RUNS else 0,
            "processStatus": task.state.name.lower() if task is not None else "deleted",
            "runtimeType": record.runtime.name,
            "snapshotter": record.snapshotter,
            "snapshotKey": record.snapshot_key,
            "labels": dict(record.labels),
            "runtimeSpec": read_json(record.spec),
        }
