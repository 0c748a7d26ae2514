"""Gives pods to containerd's CRI plugin while they run: files in its places, records in its words, then its labels.

Each pod is handed over as a whole, and its labels last of all: until then it is ours, from then on it is not. All
steps can be repeated.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyValue

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd import labels, sandbox_metadata
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.daemon_state import PLUGIN_DIRECTORY, DaemonState
from cri_dockerd_py.backends.containerd.objects import Held, NotOursError, Objects, read_container, read_sandbox
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.runtimes import Runtimes
from cri_dockerd_py.backends.containerd.sandbox_metadata import encode_sandbox
from cri_dockerd_py.backends.containerd.status_file import write_status
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import RUNS, TaskInfo, Tasks, TaskState
from cri_dockerd_py.errors import FailedPrecondition

_BUNDLES = "io.containerd.runtime.v2.task"


@dataclass(frozen=True, slots=True)
class PodNetworkRecord:
    """What a pod was given: the plugin's form of CNI's result, its addresses, and its pinned namespace."""

    cni_result: Mapping[str, Any] | None = None
    ips: tuple[str, ...] = ()
    netns_path: str = ""


class Handover:
    """For use while no service runs: `pods`, then `place` and `give` for each."""

    def __init__(self, client: ContainerdClient, paths: EnginePaths, snapshotter: str) -> None:
        self._client = client
        self._paths = paths
        self._tasks = Tasks(client)
        self._objects = Objects(client)
        self._statuses = Statuses(paths)
        self._daemon = DaemonState(client, Runtimes((), None, systemd=False), snapshotter)
        self._state_dir: Path | None = None

    async def pods(self) -> Sequence[Held]:
        """Return the sandboxes that are to be handed over; FailedPrecondition when the plugin is there already."""
        facts = await self._daemon.refresh()
        if facts.plugin_is_enabled:
            raise FailedPrecondition(
                "containerd's CRI plugin is enabled already, so it would see half of a pod: disable it in containerd's "
                "configuration (disabled_plugins), restart containerd, hand over, and enable it then"
            )
        await self._objects.load()
        return [held for held in self._objects.held.values() if held.kind == labels.SANDBOX and not held.by_plugin]

    async def place(self, sandbox: Held, network: PodNetworkRecord) -> None:
        """Put all that the plugin needs of a pod where it looks for it."""
        facts = await self._daemon.facts()
        tasks = await self._tasks.list()
        state = await self._state_directory(tasks)
        await asyncio.to_thread(self._place_sandbox_files, sandbox.id, facts.plugin_root, state / PLUGIN_DIRECTORY)
        await self._complete_metadata(sandbox, network)
        for container in self._objects.containers_of(sandbox.id):
            await self._place_status(container, tasks.get(container.id), facts.plugin_root)

    async def give(self, sandbox: Held) -> int:
        """Make a pod the plugin's, and return how many containers it has."""
        containers = self._objects.containers_of(sandbox.id)
        for held in (*containers, sandbox):
            await self._objects.change_labels(held.id, {labels.PLUGIN_KIND: held.kind, labels.KIND: ""})
        await asyncio.to_thread(self._forget_files, sandbox.id, [container.id for container in containers])
        return len(containers)

    async def _state_directory(self, tasks: Mapping[str, TaskInfo]) -> Path:
        """Return containerd's state directory: a shim works in its bundle, which is below it."""
        if self._state_dir is None:
            pids = [task.pid for task in tasks.values() if task.state in RUNS]
            found = await asyncio.to_thread(_find_state, pids)
            beside_socket = Path(self._client.endpoint.removeprefix("unix://")).parent
            self._state_dir = found or beside_socket
        return self._state_dir

    def _place_sandbox_files(self, sandbox_id: str, plugin_root: Path, plugin_state: Path) -> None:
        """Copy the pod's files, and let its shared memory appear where new containers will look for it."""
        target = plugin_root / "sandboxes" / sandbox_id
        target.mkdir(0o755, parents=True, exist_ok=True)
        for name in ("hostname", "hosts", "resolv.conf"):
            source = self._paths.sandbox(sandbox_id) / name
            if source.exists():
                shutil.copyfile(source, target / name)
        shm = plugin_state / "sandboxes" / sandbox_id / "shm"
        if host_mounts.is_mounted(self._paths.shm(sandbox_id)) and not host_mounts.is_mounted(shm):
            shm.mkdir(0o700, parents=True, exist_ok=True)
            host_mounts.mount("none", str(self._paths.shm(sandbox_id)), shm, ("bind",))

    async def _complete_metadata(self, held: Held, network: PodNetworkRecord) -> None:
        record = await self._record(held)
        metadata = replace(
            read_sandbox(record),
            name=held.name,
            ips=network.ips,
            cni_result=network.cni_result,
            netns_path=network.netns_path,
        )
        value = AnyValue(type_url=sandbox_metadata.TYPE_URL, value=encode_sandbox(metadata))
        await self._objects.put_extension(held.id, sandbox_metadata.EXTENSION, value)

    async def _place_status(self, held: Held, task: TaskInfo | None, plugin_root: Path) -> None:
        await self._statuses.load((held,))
        status = self._statuses.known(held)
        resources = status.resources or read_container(await self._record(held)).spec.resources
        running = task is not None and task.state is not TaskState.STOPPED
        status = replace(status, resources=resources, pid=task.pid if task is not None and running else 0)
        await asyncio.to_thread(write_status, plugin_root / "containers" / held.id / "status", status)

    async def _record(self, held: Held) -> Container:
        record = await self._objects.find(held.id)
        if record is None:
            raise NotOursError(f"{held.kind} {held.id} is gone")
        return record

    async def close(self) -> None:
        """Let go of containerd."""
        await self._client.close()

    def _forget_files(self, sandbox_id: str, container_ids: Sequence[str]) -> None:
        """Remove what was only ours of a pod; containers that run keep what is mounted in them."""
        host_mounts.unmount_and_remove(self._paths.shm(sandbox_id))
        for directory in (self._paths.sandbox_states / sandbox_id, self._paths.sandbox(sandbox_id)):
            shutil.rmtree(directory, ignore_errors=True)
        for container_id in container_ids:
            self._paths.status(container_id).unlink(missing_ok=True)


def _find_state(pids: Sequence[int]) -> Path | None:
    """Return the directory above the bundles that a process's shim works in. Blocking; use a thread."""
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            shim = stat.rpartition(")")[2].split()[1]
            bundle = Path(os.readlink(f"/proc/{shim}/cwd"))
        except (OSError, IndexError):
            continue
        if _BUNDLES in bundle.parts:
            return Path(*bundle.parts[: bundle.parts.index(_BUNDLES)])
    return None
