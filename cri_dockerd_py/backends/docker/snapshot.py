"""The whole state of the engine: one list call, and a look at each container that has changed since the last one."""

from __future__ import annotations

import asyncio
import json
import logging
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cri_dockerd_py.backends.base import EngineSnapshot
from cri_dockerd_py.backends.docker import labels as keys
from cri_dockerd_py.backends.docker.checkpoint import CheckpointFiles
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.container_convert import container_record
from cri_dockerd_py.backends.docker.container_logs import ContainerLogs
from cri_dockerd_py.backends.docker.convert import NotOursError, docker_type
from cri_dockerd_py.backends.docker.daemon_state import DaemonState
from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.backends.docker.image_volumes import ImageVolumes
from cri_dockerd_py.backends.docker.images import DockerImages
from cri_dockerd_py.backends.docker.marks import Marks
from cri_dockerd_py.backends.docker.objects import DockerObjects
from cri_dockerd_py.backends.docker.sandbox_convert import sandbox_record
from cri_dockerd_py.errors import CriError, Unavailable
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.model.security import NamespaceMode, NamespaceOptions, SandboxSecurity

_LOG = logging.getLogger(__name__)
_LIST = {"all": "1", "filters": json.dumps({"label": [keys.TYPE]})}
_INSPECTS_AT_ONCE = 16

Record = SandboxRecord | ContainerRecord


@dataclass(frozen=True, slots=True)
class _Seen:
    """A record, and the list entry's fields that it was made under."""

    state: str
    name: str
    record: Record


class DockerSnapshots:
    """Remembers what it inspected, so that a snapshot of an unchanged engine is three calls."""

    def __init__(
        self,
        client: DockerClient,
        objects: DockerObjects,
        daemon: DaemonState,
        images: DockerImages,
        checkpoints: CheckpointFiles,
        volumes: ImageVolumes,
        logs: ContainerLogs,
        marks: Marks,
        engine_name: str,
    ) -> None:
        self._client = client
        self._objects = objects
        self._daemon = daemon
        self._images = images
        self._checkpoints = checkpoints
        self._volumes = volumes
        self._logs = logs
        self._marks = marks
        self._engine_name = engine_name
        self._seen: dict[str, _Seen] = {}
        self._slots = asyncio.Semaphore(_INSPECTS_AT_ONCE)
        self._skipped: set[str] = set()

    def forget(self) -> None:
        """Inspect everything anew the next time: the daemon was away, and may have done anything."""
        self._seen.clear()

    async def take(self) -> EngineSnapshot:
        """Return all that is ours."""
        facts = await self._daemon.refresh()
        images = await self._images.list()
        # Checkpoints first: a sandbox that is being removed loses its container before its checkpoint.
        checkpointed = await asyncio.to_thread(self._checkpoints.ids)
        entries = await self._client.get("/containers/json", params=_LIST)
        if not isinstance(entries, list):
            raise Unavailable(f"Docker's list of containers is no list: {str(entries)[:200]}")
        records = await asyncio.gather(*(self._record(entry, facts) for entry in entries))
        self._seen = {seen.record.id: seen for seen in records if seen is not None}
        sandboxes = [seen.record for seen in records if seen and isinstance(seen.record, SandboxRecord)]
        containers = [seen.record for seen in records if seen and isinstance(seen.record, ContainerRecord)]
        listed = {str(entry.get("Id")) for entry in entries if isinstance(entry, dict)}
        self._skipped &= listed
        sandboxes = [*_with_log_directories(sandboxes, containers), *await self._lost(checkpointed - listed)]
        # What this process has made since the list was taken is not in it.
        await self._volumes.release_all_but({sandbox.id for sandbox in sandboxes} | self._marks.made)
        await self._logs.keep_only(listed | self._marks.made)
        return EngineSnapshot(facts.engine_info(self._engine_name), tuple(sandboxes), tuple(containers), tuple(images))

    async def _record(self, entry: object, facts: DaemonFacts) -> _Seen | None:
        """Return the record of a list entry, None for what is gone or makes no sense."""
        try:
            return await self._look(entry, facts)
        except Unavailable:
            raise
        except (CriError, NotOursError, KeyError, TypeError, ValueError, AttributeError) as error:
            object_id = str(entry.get("Id")) if isinstance(entry, dict) else str(entry)[:80]
            if object_id not in self._skipped:
                self._skipped.add(object_id)
                _LOG.warning("container %s is left out: %s: %s", object_id, type(error).__name__, error)
            return None

    async def _look(self, entry: Any, facts: DaemonFacts) -> _Seen | None:
        object_id, state = str(entry["Id"]), str(entry["State"])
        name = str((entry.get("Names") or [""])[0])
        seen = self._seen.get(object_id)
        if seen is not None and (seen.state, seen.name) == (state, name):
            return seen
        async with self._slots:
            document = await self._objects.find(object_id)
        if document is None:
            return None
        if document["State"].get("Status") == "created":
            await self._objects.end_forgotten(object_id)
        return _Seen(_state_of(document, state), name, self._convert(document, facts))

    def _convert(self, document: Mapping[str, Any], facts: DaemonFacts) -> Record:
        if docker_type(document) == keys.SANDBOX_TYPE:
            return sandbox_record(document, facts, self._engine_name)
        oom_killed = document["Id"] in self._marks.ooms
        return container_record(document, self._images.known, self._engine_name, oom_killed=oom_killed)

    async def _lost(self, sandbox_ids: frozenset[str]) -> list[SandboxRecord]:
        """Return sandboxes of which only the checkpoint is left, so that kubelet stops and removes them."""
        return [record for record in await asyncio.to_thread(self._read_lost, sandbox_ids) if record is not None]

    def _read_lost(self, sandbox_ids: frozenset[str]) -> list[SandboxRecord | None]:
        return [self._lost_sandbox(sandbox_id) for sandbox_id in sorted(sandbox_ids)]

    def _lost_sandbox(self, sandbox_id: str) -> SandboxRecord | None:
        read = self._checkpoints.read(sandbox_id)
        if read is None:
            return None
        checkpoint, written_at_ns = read
        network = NamespaceMode.NODE if checkpoint.host_network else NamespaceMode.POD
        # A checkpoint has no uid, and a status without one is refused by kubelet.
        metadata = PodMetadata(checkpoint.name, sandbox_id, checkpoint.namespace)
        security = SandboxSecurity(namespaces=NamespaceOptions(network=network, pid=NamespaceMode.CONTAINER))
        spec = SandboxSpec(metadata, port_mappings=checkpoint.port_mappings, security=security)
        return SandboxRecord(sandbox_id, spec, SandboxState.NOTREADY, written_at_ns, self._engine_name)


def _state_of(document: Mapping[str, Any], listed: str) -> str:
    """Return the state that the record shows, which may be newer than the list's."""
    return str(document["State"].get("Status") or listed)


def _with_log_directories(
    sandboxes: Sequence[SandboxRecord], containers: Sequence[ContainerRecord]
) -> list[SandboxRecord]:
    """Return the sandboxes with the log directory that their containers' log paths show."""
    directories = {
        container.sandbox_id: posixpath.dirname(posixpath.dirname(container.log_path))
        for container in containers
        if container.log_path.count("/") > 2
    }
    return [
        replace(sandbox, spec=replace(sandbox.spec, log_directory=directories[sandbox.id]))
        if sandbox.id in directories
        else sandbox
        for sandbox in sandboxes
    ]
