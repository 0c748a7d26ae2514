"""An engine in memory that keeps its state when the service under test is made anew; first processes are real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cri_dockerd_py.backends import base
from cri_dockerd_py.errors import NotFound, Unavailable, Unimplemented
from cri_dockerd_py.model.container import ContainerRecord, ContainerSpec, ContainerState
from cri_dockerd_py.model.image import FilesystemUsage, ImageRecord, RegistryAuth
from cri_dockerd_py.model.node import CgroupDriver, EngineInfo, RuntimeHandler
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec, SandboxState
from tests.processes import wait_until

Hook = Callable[[], Awaitable[None]]


async def _unknown(_sandbox_id: str) -> int:
    return 0


@dataclass
class World:
    """All that an engine has. `away` makes every call fail; `hooks` run before the named step."""

    name: str
    takes_netns: bool = False
    away: bool = False
    sandboxes: dict[str, SandboxRecord] = field(default_factory=dict)
    containers: dict[str, ContainerRecord] = field(default_factory=dict)
    images: dict[str, ImageRecord] = field(default_factory=dict)
    pullable: dict[str, ImageRecord] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    mountpoint: str = "/"
    used_bytes: int = 100
    events: list[asyncio.Queue[base.EngineEvent]] = field(default_factory=list)
    forerunner: Callable[[str], Awaitable[int]] = field(default=_unknown)
    enter: Sequence[str] = ("unshare", "--net")

    async def step(self, name: str) -> None:
        """Take note of a call, and let the test interfere."""
        if self.away:
            raise Unavailable(f"{self.name} is away")
        self.steps.append(name)
        if (hook := self.hooks.get(name)) is not None:
            await hook()

    async def answer(self, name: str) -> None:
        """Let the test interfere while an answer is on its way."""
        if (hook := self.hooks.get(f"answer {name}")) is not None:
            await hook()

    def tell(self, event: base.EngineEvent) -> None:
        """Send an event to whoever listens."""
        for queue in self.events:
            queue.put_nowait(event)

    def run(self, object_id: str, prefix: Sequence[str] = ()) -> int:
        """Start the first process of a sandbox or container."""
        self.processes[object_id] = subprocess.Popen([*prefix, "sleep", "1000"])
        return self.processes[object_id].pid

    def kill(self, object_id: str) -> None:
        """End the first process."""
        process = self.processes.pop(object_id, None)
        if process is not None:
            process.kill()
            process.wait()

    def leave(self) -> None:
        """Go away, as a daemon that is stopped does."""
        self.away = True
        self.tell(base.Disconnected("it was stopped"))

    def come_back(self) -> None:
        """Answer again."""
        self.away = False
        self.tell(base.Connected())

    def close(self) -> None:
        """End all processes."""
        for object_id in list(self.processes):
            self.kill(object_id)

    def engine(self) -> base.Engine:
        """Return the engine interface over this world."""
        rooms = (_Sandboxes(self), _Containers(self), _Processes(self), _Images(self), _Events(self))
        return base.Engine(self.name, *rooms)


class _Sandboxes(base.SandboxRuntime):
    takes_netns = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.takes_netns = world.takes_netns  # type: ignore[misc]

    async def create(self, spec: SandboxSpec, *, netns_path: str = "", sandbox_id: str = "") -> base.CreatedSandbox:
        await self.world.step("create sandbox")
        assert bool(sandbox_id) == self.takes_netns
        sandbox_id = sandbox_id or secrets.token_hex(32)
        record = SandboxRecord(sandbox_id, spec, SandboxState.NOTREADY, time.time_ns(), self.world.name)
        self.world.sandboxes[sandbox_id] = replace(record, netns_path=netns_path)
        return base.CreatedSandbox(sandbox_id, record.created_at_ns)

    async def start(self, sandbox_id: str, spec: SandboxSpec) -> base.StartedProcess:
        await self.world.step("start sandbox")
        record = self.world.sandboxes[sandbox_id]
        enter = ["nsenter", f"--net={record.netns_path}"] if record.netns_path else self.world.enter
        pid = self.world.run(sandbox_id, [] if spec.host_network else enter)
        if not spec.host_network:
            await asyncio.to_thread(wait_until, lambda: _netns_of(pid) != _netns_of("self"), "the namespace", 10)
        self.world.sandboxes[sandbox_id] = replace(record, state=SandboxState.READY, pid=pid)
        return base.StartedProcess(pid, time.time_ns())

    async def forerunner(self, sandbox_id: str, spec: SandboxSpec) -> int:
        return await self.world.forerunner(sandbox_id)

    async def kill(self, sandbox_id: str) -> None:
        await self.world.step("kill sandbox")
        self.world.kill(sandbox_id)
        if (record := self.world.sandboxes.get(sandbox_id)) is not None:
            self.world.sandboxes[sandbox_id] = replace(record, state=SandboxState.NOTREADY, pid=0)

    async def remove(self, sandbox_id: str) -> None:
        await self.world.step("remove sandbox")
        self.world.kill(sandbox_id)
        self.world.sandboxes.pop(sandbox_id, None)

    async def inspect(self, sandbox_id: str) -> SandboxRecord | None:
        await self.world.step("inspect sandbox")
        return self.world.sandboxes.get(sandbox_id)

    async def discard_unborn(self, spec: SandboxSpec) -> None:
        await self.world.step("discard sandbox")
        for record in list(self.world.sandboxes.values()):
            if record.spec.metadata == spec.metadata and not record.pid:
                del self.world.sandboxes[record.id]

    async def verbose(self, sandbox_id: str) -> Mapping[str, object]:
        return {"sandboxID": sandbox_id}


class _Containers(base.ContainerRuntime):
    def __init__(self, world: World) -> None:
        self.world = world

    async def create(
        self, spec: ContainerSpec, image: ImageRecord, sandbox: SandboxRecord, *, log_path: str
    ) -> base.CreatedContainer:
        await self.world.step("create container")
        assert image.id in self.world.images
        record = ContainerRecord(
            secrets.token_hex(32),
            sandbox.id,
            spec,
            ContainerState.CREATED,
            time.time_ns(),
            self.world.name,
            image.id,
            image.id,
            spec.image.image,
            log_path=log_path,
        )
        self.world.containers[record.id] = record
        return base.CreatedContainer(record.id, record.created_at_ns, image.id, spec.image.image, 0)

    async def start(self, container_id: str) -> base.StartedProcess:
        await self.world.step("start container")
        pid, now = self.world.run(container_id), time.time_ns()
        record = self.world.containers[container_id]
        self.world.containers[container_id] = replace(record, state=ContainerState.RUNNING, pid=pid, started_at_ns=now)
        return base.StartedProcess(pid, now)

    async def signal(self, container_id: str, signal_number: int) -> None:
        await self.world.step(f"signal {signal.Signals(signal_number).name}")
        record = self.world.containers.get(container_id)
        if record is None or record.state not in (ContainerState.RUNNING, ContainerState.UNKNOWN):
            return
        self.world.kill(container_id)
        code, now = 128 + signal_number, time.time_ns()
        self.world.containers[container_id] = replace(
            record, state=ContainerState.EXITED, pid=0, finished_at_ns=now, exit_code=code, reason="Error"
        )
        self.world.tell(base.ProcessExited(container_id, code, now))

    async def remove(self, container_id: str) -> None:
        await self.world.step("remove container")
        self.world.kill(container_id)
        self.world.containers.pop(container_id, None)
        self.world.tell(base.ObjectGone(container_id))

    async def update(self, container_id: str, resources: Resources) -> None:
        await self.world.step("update container")

    async def reopen_log(self, container_id: str) -> None:
        await self.world.step("reopen log")

    async def inspect(self, container_id: str) -> ContainerRecord | None:
        await self.world.step("inspect container")
        return self.world.containers.get(container_id)

    async def discard_unborn(self, spec: ContainerSpec, sandbox: SandboxRecord) -> None:
        await self.world.step("discard container")
        for record in list(self.world.containers.values()):
            unborn = record.state is ContainerState.CREATED and record.sandbox_id == sandbox.id
            if unborn and record.spec.metadata == spec.metadata:
                del self.world.containers[record.id]

    async def verbose(self, container_id: str) -> Mapping[str, object]:
        return {"sandboxID": self.world.containers[container_id].sandbox_id}


class _Exec(base.ProcessIO):
    """A command that runs until it is killed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ended = asyncio.Event()

    async def read(self) -> tuple[int, bytes] | None:
        await self.ended.wait()
        return None

    async def write_stdin(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int:
        await self.ended.wait()
        return 128 + signal.SIGKILL

    async def kill(self) -> None:
        await self.world.step("kill exec")
        self.ended.set()

    async def close(self) -> None:
        await self.world.step("close exec")


class _Processes(base.ProcessRuntime):
    def __init__(self, world: World) -> None:
        self.world = world

    async def exec(self, container_id: str, spec: base.ExecSpec) -> base.ProcessIO:
        await self.world.step("exec")
        return _Exec(self.world)

    async def attach(self, container_id: str, **streams: Any) -> base.ProcessIO:
        raise Unimplemented("nothing can be attached to here")

    async def checkpoint(self, container_id: str, location: str, *, within_s: float) -> None:
        raise Unimplemented("there are no checkpoints here")


class _Images(base.ImageStore):
    def __init__(self, world: World) -> None:
        self.world = world

    async def pull(self, image: str, auth: RegistryAuth | None) -> str:
        await self.world.step(f"pull {image}")
        record = self.world.pullable.get(image)
        if record is None:
            raise NotFound(f"there is no {image}")
        self.world.images[record.id] = record
        return record.id

    async def list(self) -> Sequence[ImageRecord]:
        await self.world.step("list images")
        images = list(self.world.images.values())
        await self.world.answer("images")
        return images

    async def inspect(self, image: str) -> ImageRecord | None:
        return self.world.images.get(image)

    async def remove(self, image_id: str) -> None:
        await self.world.step("remove image")
        self.world.images.pop(image_id, None)

    async def filesystems(self) -> tuple[Sequence[FilesystemUsage], Sequence[FilesystemUsage]]:
        return (FilesystemUsage(time.time_ns(), self.world.mountpoint, self.world.used_bytes, 5),), ()

    async def verbose(self, image_id: str) -> Mapping[str, object]:
        return {"labels": dict(self.world.images[image_id].labels)}


class _Events(base.EventSource):
    def __init__(self, world: World) -> None:
        self.world = world

    async def events(self) -> AsyncIterator[base.EngineEvent]:
        queue: asyncio.Queue[base.EngineEvent] = asyncio.Queue()
        self.world.events.append(queue)
        yield base.Disconnected("it is away") if self.world.away else base.Connected()
        try:
            while True:
                yield await queue.get()
        finally:
            with contextlib.suppress(ValueError):
                self.world.events.remove(queue)

    async def snapshot(self) -> base.EngineSnapshot:
        await self.world.step("snapshot")
        world = self.world
        handlers = (RuntimeHandler(""), RuntimeHandler(f"only-{world.name}"))
        info = EngineInfo(world.name, "1.0", "1", CgroupDriver.CGROUPFS, 1, f"/data/{world.name}", handlers)
        sandboxes = tuple(one for one in world.sandboxes.values() if one.pid or one.state is SandboxState.NOTREADY)
        snapshot = base.EngineSnapshot(info, sandboxes, tuple(world.containers.values()), tuple(world.images.values()))
        await self.world.answer("snapshot")
        return snapshot

    async def ping(self) -> None:
        if self.world.away:
            raise Unavailable(f"{self.world.name} is away")


def _netns_of(pid: int | str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    return 0
