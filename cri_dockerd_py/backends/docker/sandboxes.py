"""Sandboxes on Docker Engine: a pause container each, which is made and started in two calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from cri_dockerd_py.backends.base import CreatedSandbox, SandboxRuntime, StartedProcess
from cri_dockerd_py.backends.docker import labels as keys
from cri_dockerd_py.backends.docker.checkpoint import CheckpointFiles, checkpoint_of
from cri_dockerd_py.backends.docker.convert import NotOursError, docker_type, time_ns
from cri_dockerd_py.backends.docker.daemon_state import DaemonState
from cri_dockerd_py.backends.docker.forerunner import Forerunners, cgroup_path
from cri_dockerd_py.backends.docker.image_volumes import ImageVolumes
from cri_dockerd_py.backends.docker.objects import DockerObjects
from cri_dockerd_py.backends.docker.pause import PauseImage
from cri_dockerd_py.backends.docker.sandbox_config import sandbox_config
from cri_dockerd_py.backends.docker.sandbox_convert import sandbox_record
from cri_dockerd_py.errors import NotFound, Unavailable, Unknown
from cri_dockerd_py.model.names import sandbox_name
from cri_dockerd_py.model.sandbox import DnsConfig, SandboxRecord, SandboxSpec

#: Writes a pod's DNS settings into an existing file in place.
WriteResolvConf = Callable[[Path, DnsConfig | None], None]
_OOM_SCORE = "oom_score_adj"


class DockerSandboxes(SandboxRuntime):
    """`checkpoints` are written as cri-dockerd would, so that it could take the pods back."""

    takes_netns: ClassVar[bool] = False

    def __init__(
        self,
        objects: DockerObjects,
        daemon: DaemonState,
        pause: PauseImage,
        checkpoints: CheckpointFiles,
        volumes: ImageVolumes,
        write_resolv_conf: WriteResolvConf,
        engine_name: str,
    ) -> None:
        self._objects = objects
        self._daemon = daemon
        self._pause = pause
        self._checkpoints = checkpoints
        self._volumes = volumes
        self._write_resolv_conf = write_resolv_conf
        self._engine_name = engine_name
        self._forerunners = Forerunners()

    async def create(self, spec: SandboxSpec, *, netns_path: str = "", sandbox_id: str = "") -> CreatedSandbox:
        """Make the pause container and its checkpoint."""
        name = sandbox_name(spec.metadata)
        body = await self._config(spec)

        async def write_checkpoint(sandbox_id: str) -> None:
            await asyncio.to_thread(self._checkpoints.write, sandbox_id, checkpoint_of(spec))

        try:
            created_id = await self._objects.create(name, body, write_checkpoint)
        except NotFound:
            await self._pause.ensure(anew=True)
            created_id = await self._objects.create(name, body, write_checkpoint)
        return CreatedSandbox(created_id, time.time_ns())

    async def _config(self, spec: SandboxSpec) -> dict[str, Any]:
        facts = await self._daemon.facts()
        return sandbox_config(spec, self._pause.name, facts, least_oom_score_adj=self._daemon.least_oom_score_adj)

    async def start(self, sandbox_id: str, spec: SandboxSpec) -> StartedProcess:
        """Start the pause process and write resolv.conf; the network comes from the caller."""
        try:
            await self._objects.start(sandbox_id)
        except Unknown as error:
            if _OOM_SCORE in str(error):
                self._daemon.restrict_oom_score_adj()
            raise
        document = await self._objects.find(sandbox_id)
        if document is None:
            raise NotFound(f"sandbox {sandbox_id} was removed while it was being started")
        if not document["State"].get("Running"):
            raise Unknown(f"the pause process of sandbox {sandbox_id} ended at once: {document['State']}")
        self._objects.runs(document)
        if path := document.get("ResolvConfPath"):
            await self._write_dns(Path(path), spec)
        return StartedProcess(int(document["State"].get("Pid") or 0), time_ns(document["State"].get("StartedAt")))

    async def forerunner(self, sandbox_id: str, spec: SandboxSpec) -> int:
        """Return a process in the namespace that is being made, as its cgroup shows; only with the default runtime."""
        if spec.runtime_handler:
            return 0
        driver = (await self._daemon.facts()).cgroup_driver
        return await self._forerunners.find(cgroup_path(sandbox_id, spec.cgroup_parent, driver), self._daemon.pid)

    async def _write_dns(self, path: Path, spec: SandboxSpec) -> None:
        """Docker has written the node's settings; a pod on the node's network that asks for nothing keeps them."""
        if spec.dns is not None or not spec.host_network:
            await asyncio.to_thread(self._write_resolv_conf, path, spec.dns)

    async def kill(self, sandbox_id: str) -> None:
        """Kill the pause process."""
        await self._objects.kill(sandbox_id)

    async def remove(self, sandbox_id: str) -> None:
        """Remove the pause container, with it its checkpoint, and the images that were mounted for the pod."""
        await self._objects.remove(sandbox_id)
        await self._volumes.release(sandbox_id)

    async def inspect(self, sandbox_id: str) -> SandboxRecord | None:
        """Return the sandbox as Docker knows it."""
        document = await self._objects.find(sandbox_id)
        if document is None or docker_type(document) != keys.SANDBOX_TYPE:
            return None
        try:
            return sandbox_record(document, await self._daemon.facts(), self._engine_name)
        except NotOursError:
            return None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(f"Docker's description of sandbox {sandbox_id} makes no sense: {error!r}") from error

    async def discard_unborn(self, spec: SandboxSpec) -> None:
        """Remove the pause container by its name unless it runs."""
        await self._objects.discard_unborn(
            sandbox_name(spec.metadata), lambda document: not document["State"].get("Running")
        )

    async def verbose(self, sandbox_id: str) -> Mapping[str, object]:
        """Return Docker's inspect document."""
        document = await self._objects.find(sandbox_id)
        if document is None:
            raise NotFound(f"sandbox {sandbox_id} is not known to Docker")
        return {"sandboxID": sandbox_id, "pid": document["State"].get("Pid"), "docker": document}
