"""The backend of each real engine, and short ways to make pods with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cri_dockerd_py.backends.base import Connected, CreatedSandbox, Engine, EngineEvent, ExecSpec
from cri_dockerd_py.backends.containerd.engine import ContainerdEngine as ContainerdConnection
from cri_dockerd_py.backends.containerd.engine import ContainerdOptions
from cri_dockerd_py.backends.docker.engine import DockerEngine as DockerConnection
from cri_dockerd_py.backends.docker.engine import DockerOptions, connect
from cri_dockerd_py.daemon.instance import instance_name
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.model.container import ContainerMetadata, ContainerRecord, ContainerSpec, ImageSpec
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import DnsConfig, PodMetadata, SandboxRecord, SandboxSpec
from cri_dockerd_py.model.security import ContainerSecurity, NamespaceMode, NamespaceOptions
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.resolv_conf import render_resolv_conf, write_resolv_conf
from cri_dockerd_py.pause.image import PAUSE_IMAGE_NAME, pause_image_tar
from cri_dockerd_py.settings.runtimes import ContainerdRuntime
from tests import images
from tests.engines import DockerEngine, RealEngine
from tests.processes import erase

HOST_DNS = "nameserver 192.0.2.1\n"
OWN_PID = ContainerSecurity(namespaces=NamespaceOptions(pid=NamespaceMode.CONTAINER))
_serial = itertools.count()


def _write_dns(path: Path, dns: DnsConfig | None) -> None:
    write_resolv_conf(path, render_resolv_conf(dns, HOST_DNS))


def docker_options(docker: DockerEngine, directory: Path, **changes: Any) -> DockerOptions:
    """Return options with the built-in pause image."""
    options = DockerOptions(
        endpoint=docker.endpoint,
        state_dir=directory / "state",
        pause_image=PAUSE_IMAGE_NAME,
        pause_image_tar=lambda: pause_image_tar("amd64"),
        write_resolv_conf=_write_dns,
        checkpoint_dirs=(directory / "sandbox", directory / "dockershim"),
    )
    return replace(options, **changes)


@dataclass
class Backend:
    """An engine under test, with the events that it has yielded."""

    engine: Engine
    real: RealEngine
    directory: Path
    netns: NetnsDir
    seen: list[EngineEvent] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self) -> None:
        """Collect events for ever."""
        async for event in self.engine.events.events():
            async with self.arrived:
                self.seen.append(event)
                self.arrived.notify_all()

    async def event(self, wanted: Callable[[EngineEvent], bool], within_s: float = 20.0) -> EngineEvent:
        """Return the first event that is wanted, waiting for it."""
        async with asyncio.timeout(within_s), self.arrived:
            while True:
                for event in self.seen:
                    if wanted(event):
                        return event
                await self.arrived.wait()

    async def nothing_left(self, within_s: float = 10.0) -> None:
        """See that the engine has nothing left; some of what is of no use any more it removes by and by."""
        deadline = time.monotonic() + within_s
        while any((left := await asyncio.to_thread(self.real.left)).values()):
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.2)

    async def image(self, name: str = images.BUSYBOX) -> ImageRecord:
        """Return a test image."""
        record = await self.engine.images.inspect(f"docker.io/{name}")
        assert record is not None
        return record

    def pod(self, **changes: Any) -> SandboxSpec:
        """Return the spec of a new pod."""
        number = next(_serial)
        return replace(SandboxSpec(PodMetadata(f"pod{number}", f"uid{number}", "tests")), **changes)

    @property
    def pause_names(self) -> set[str]:
        """The names of images that pods need and nobody may remove."""
        return {"docker.io/cri-dockerd-py/pause:1"} if self.real.kind == "docker" else set()

    def logged(self, path: Path) -> str:
        """Return the one line of a log in the engine's own format."""
        (line,) = path.read_text().splitlines()
        if self.real.kind == "docker":
            return str(json.loads(line)["log"]).rstrip("\n")
        return line.split(" ", 3)[3]

    async def create_sandbox(self, spec: SandboxSpec) -> CreatedSandbox:
        """Create a sandbox, in a network namespace made for it where the engine wants one."""
        if not self.engine.sandboxes.takes_netns or spec.host_network:
            return await self.engine.sandboxes.create(spec)
        name = f"pod{next(_serial)}"
        try:
            return await self.engine.sandboxes.create(spec, netns_path=str(await self.netns.create(name)))
        except BaseException:
            await self.netns.remove(name)
            raise

    async def run(self, spec: SandboxSpec | None = None) -> SandboxRecord:
        """Run a sandbox."""
        spec = spec or self.pod()
        created = await self.create_sandbox(spec)
        await self.engine.sandboxes.start(created.id, spec)
        record = await self.engine.sandboxes.inspect(created.id)
        assert record is not None
        return record

    async def create(
        self,
        sandbox: SandboxRecord,
        *command: str,
        image: str = images.BUSYBOX,
        record: ImageRecord | None = None,
        log_path: str = "",
        **changes: Any,
    ) -> str:
        """Create a container of a test image, or of `record`, and return its id."""
        record = record or await self.image(image)
        spec = replace(
            ContainerSpec(
                ContainerMetadata(f"c{next(_serial)}"), ImageSpec(record.id), command=command, security=OWN_PID
            ),
            **changes,
        )
        return (await self.engine.containers.create(spec, record, sandbox, log_path=log_path)).id

    async def start(self, sandbox: SandboxRecord, *command: str, **changes: Any) -> str:
        """Create and start a container and return its id."""
        container_id = await self.create(sandbox, *(command or ("sleep", "1000")), **changes)
        await self.engine.containers.start(container_id)
        return container_id

    async def look(self, container_id: str) -> ContainerRecord:
        """Return a container that must be there."""
        record = await self.engine.containers.inspect(container_id)
        assert record is not None
        return record

    async def sh(self, container_id: str, script: str) -> str:
        """Run a script that must succeed, and return what it prints."""
        process = await self.engine.processes.exec(container_id, ExecSpec(("sh", "-c", f"exec 2>&1; {script}")))
        try:
            output = b""
            while (piece := await process.read()) is not None:
                output += piece[1]
            assert await process.wait() == 0, output
            return output.decode()
        finally:
            await process.close()


def containerd_options(node: Any, directory: Path, **changes: Any) -> ContainerdOptions:
    """Return options with the built-in pause program."""
    options = ContainerdOptions(
        endpoint=node.endpoint,
        root_dir=directory / "root",
        state_dir=directory / "state",
        write_resolv_conf=_write_dns,
        registry=Registry(),
        owner=instance_name(directory),
        architecture="amd64",
        runtimes=(ContainerdRuntime(name="crun", options={"BinaryName": str(node.crun)}),),
    )
    return replace(options, **changes)


def connected(real: RealEngine, directory: Path, **changes: Any) -> DockerConnection | ContainerdConnection:
    """Return the connection to an engine, not started, with options that are changed."""
    if isinstance(real, DockerEngine):
        return connect(docker_options(real, directory, **changes))
    return ContainerdConnection(containerd_options(real, directory, **changes))


@contextlib.asynccontextmanager
async def opened(real: RealEngine, directory: Path, **changes: Any) -> AsyncIterator[Backend]:
    """Connect to an engine, and clean it up afterwards."""
    connection = connected(real, directory, **changes)
    await connection.start()
    netns = NetnsDir(instance_name(directory))
    backend = Backend(connection.engine, real, directory, netns)
    follower = asyncio.ensure_future(backend.follow())
    try:
        await backend.event(lambda event: isinstance(event, Connected))
        await backend.engine.images.list()
        yield backend
    finally:
        follower.cancel()
        await asyncio.wait((follower,))
        await connection.close()
        if real.daemon.running:
            await asyncio.to_thread(real.remove_all_containers)
        for name in netns.names():
            await netns.remove(name)
        await asyncio.to_thread(erase, directory / "state")


@pytest.fixture
async def backend(engine: RealEngine, tmp_path: Path) -> AsyncIterator[Backend]:
    """The backend on the shared engine."""
    async with opened(engine, tmp_path) as backend:
        yield backend
