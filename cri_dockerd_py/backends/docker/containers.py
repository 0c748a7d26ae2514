"""Containers on Docker Engine."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from typing import Any

from cri_dockerd_py.backends.base import ContainerRuntime, CreatedContainer, StartedProcess
from cri_dockerd_py.backends.docker import cgroup_files
from cri_dockerd_py.backends.docker import labels as keys
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.container_config import container_config
from cri_dockerd_py.backends.docker.container_convert import (
    FindImage,
    container_record,
    shown_image,
    writable_layer_path,
)
from cri_dockerd_py.backends.docker.container_logs import ContainerLogs
from cri_dockerd_py.backends.docker.container_prepare import ContainerPreparation
from cri_dockerd_py.backends.docker.convert import NotOursError, docker_type, time_ns
from cri_dockerd_py.backends.docker.daemon_state import DaemonState
from cri_dockerd_py.backends.docker.marks import Marks
from cri_dockerd_py.backends.docker.objects import DockerObjects
from cri_dockerd_py.backends.docker.resources import limit_fields
from cri_dockerd_py.backends.makings import Makings
from cri_dockerd_py.backends.unified_limits import check_unified
from cri_dockerd_py.errors import CriError, InvalidArgument, NotFound, Unavailable, Unknown
from cri_dockerd_py.model.container import ContainerRecord, ContainerSpec
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.names import container_name
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord
from cri_dockerd_py.model.signals import parse_signal

_OOM_SCORE = "oom_score_adj"


class DockerContainers(ContainerRuntime):
    """`find_image` looks an image up in memory."""

    def __init__(
        self,
        client: DockerClient,
        objects: DockerObjects,
        daemon: DaemonState,
        preparation: ContainerPreparation,
        logs: ContainerLogs,
        find_image: FindImage,
        marks: Marks,
        engine_name: str,
    ) -> None:
        self._client = client
        self._objects = objects
        self._daemon = daemon
        self._preparation = preparation
        self._logs = logs
        self._find_image = find_image
        self._marks = marks
        self._engine_name = engine_name
        self._starts = Makings()
        #: Limits to write once the container runs; lost with this process, as a container CREATED then is replaced.
        self._unified: dict[str, Mapping[str, str]] = {}

    async def create(
        self, spec: ContainerSpec, image: ImageRecord, sandbox: SandboxRecord, *, log_path: str
    ) -> CreatedContainer:
        """Make the container."""
        facts = await self._daemon.facts()
        prepared = await self._preparation.prepare(spec, image, sandbox, facts, has_log=bool(log_path))
        body = container_config(spec, sandbox, prepared, facts, log_path=log_path)
        created_at_ns = time.time_ns()
        container_id = await self._objects.create(container_name(spec.metadata, sandbox.spec.metadata), body)
        if spec.resources.unified:
            self._unified[container_id] = spec.resources.unified
        image_ref, image_name = shown_image(image, image.id, spec.image.image)
        return CreatedContainer(
            id=container_id,
            created_at_ns=created_at_ns,
            image_ref=image_ref,
            image_name=image_name,
            stop_signal=spec.stop_signal or parse_signal(image.stop_signal),
        )

    async def start(self, container_id: str) -> StartedProcess:
        """Start it, and set the limits that need its cgroup. A start that was begun is always seen to its end.

        From Docker 25 on, a start whose request is given up has failed, and the container EXITED, where Docker hung.
        """
        return await self._starts.join(container_id, lambda: self._start(container_id))

    async def _start(self, container_id: str) -> StartedProcess:
        try:
            await self._objects.start(container_id)
        except Unknown as error:
            if _OOM_SCORE in str(error):
                self._daemon.restrict_oom_score_adj()
            raise
        document = await self._existing(container_id)
        self._objects.runs(document)
        state = document["State"]
        pid = int(state.get("Pid") or 0) if state.get("Running") else 0
        unified = self._unified.pop(container_id, None)
        if unified and pid:
            await self._set_unified(container_id, pid, unified)
        log_path = str((document["Config"].get("Labels") or {}).get(keys.LOG_PATH) or "")
        if log_path:
            await self._show_log(container_id, log_path, str(document.get("LogPath") or ""))
        return StartedProcess(pid, time_ns(state.get("StartedAt")), writable_layer_path(document))

    async def _show_log(self, container_id: str, log_path: str, docker_path: str) -> None:
        """Put the log at its path, or end the container: a start that has failed leaves nothing that runs."""
        try:
            await self._logs.started(log_path, docker_path)
        except CriError:
            await self._objects.kill(container_id)
            raise

    async def _set_unified(self, container_id: str, pid: int, unified: Mapping[str, str]) -> None:
        try:
            directory = await asyncio.to_thread(cgroup_files.cgroup_of, pid)
            await asyncio.to_thread(cgroup_files.write_limits, directory, unified)
        except NotFound:
            return
        except InvalidArgument:
            await self._objects.kill(container_id)
            raise

    async def signal(self, container_id: str, signal_number: int) -> None:
        """Send a signal."""
        if signal_number == signal.SIGKILL:
            await self._objects.kill(container_id)
        else:
            await self._objects.signal(container_id, signal_number)

    async def remove(self, container_id: str) -> None:
        """Remove it."""
        log_path = await self._linked_log(container_id) if self._logs.makes_links else ""
        await self._objects.remove(container_id)
        self._unified.pop(container_id, None)
        await self._logs.removed(container_id, log_path)

    async def _linked_log(self, container_id: str) -> str:
        document = await self._objects.find(container_id)
        labels = {} if document is None else document["Config"].get("Labels") or {}
        return str(labels.get(keys.LOG_PATH) or "")

    async def update(self, container_id: str, resources: Resources) -> None:
        """Set limits: those without a field first, since they can be taken back."""
        facts = await self._daemon.facts()
        check_unified(resources.unified, facts.cgroup_version)
        if resources.unified:
            await self._update_unified(container_id, resources)
        else:
            await self._update_limits(container_id, resources)

    async def _update_unified(self, container_id: str, resources: Resources) -> None:
        state = (await self._existing(container_id))["State"]
        if not state.get("Running"):
            await self._update_limits(container_id, resources)
            self._unified[container_id] = {**self._unified.get(container_id, {}), **resources.unified}
            return
        directory = await asyncio.to_thread(cgroup_files.cgroup_of, int(state["Pid"]))
        before = await asyncio.to_thread(cgroup_files.write_limits, directory, resources.unified)
        try:
            await self._update_limits(container_id, resources)
        except CriError:
            await asyncio.to_thread(cgroup_files.restore_limits, directory, before)
            raise

    async def _update_limits(self, container_id: str, resources: Resources) -> None:
        fields = limit_fields(resources)
        if fields:
            await self._client.post("/containers/{}/update", container_id, body=fields)

    async def reopen_log(self, container_id: str) -> None:
        """Go on in a new log file."""
        await self._logs.reopen(container_id)

    async def inspect(self, container_id: str) -> ContainerRecord | None:
        """Return the container as Docker knows it."""
        document = await self._objects.find(container_id)
        if document is None or docker_type(document) != keys.CONTAINER_TYPE:
            return None
        try:
            oom_killed = container_id in self._marks.ooms
            return container_record(document, self._find_image, self._engine_name, oom_killed=oom_killed)
        except NotOursError:
            return None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(f"Docker's description of container {container_id} makes no sense: {error!r}") from error

    async def discard_unborn(self, spec: ContainerSpec, sandbox: SandboxRecord) -> None:
        """Remove the container by its name if it has never run."""
        await self._objects.discard_unborn(container_name(spec.metadata, sandbox.spec.metadata), _has_never_run)

    async def verbose(self, container_id: str) -> Mapping[str, object]:
        """Return Docker's inspect document, without the environment, which may hold secrets."""
        document = await self._existing(container_id)
        shown = {**document, "Config": {key: value for key, value in document["Config"].items() if key != "Env"}}
        sandbox_id = (document["Config"].get("Labels") or {}).get(keys.SANDBOX_ID, "")
        return {"sandboxID": sandbox_id, "pid": document["State"].get("Pid"), "docker": shown}

    async def _existing(self, container_id: str) -> dict[str, Any]:
        document = await self._objects.find(container_id)
        if document is None:
            raise NotFound(f"container {container_id} is not known to Docker: it was removed by another program")
        return document


def _has_never_run(document: Mapping[str, Any]) -> bool:
    return document["State"].get("Status") == "created" and not time_ns(document["State"].get("StartedAt"))
