"""A node in memory: two engines, pods on them, and a kubelet that brings pods back. It keeps state as the real one."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from cri_dockerd_py.backends.image_transfer import ImageTransfer, Note
from cri_dockerd_py.errors import FailedPrecondition, Unknown
from cri_dockerd_py.model.container import ContainerMetadata, ContainerRecord, ContainerSpec, ContainerState, ImageSpec
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.node import CgroupDriver, EngineInfo, RuntimeHandler
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxSpec, SandboxState

DOCKER, CONTAINERD = "docker", "containerd"
_serial = itertools.count(1)


@dataclass(slots=True)
class FakeHealth:
    """An engine that answers or not."""

    ready: bool = True
    reason: str = ""


@dataclass(slots=True)
class FakeSide:
    """One engine."""

    name: str
    health: FakeHealth = field(default_factory=FakeHealth)
    handlers: tuple[RuntimeHandler, ...] = (RuntimeHandler(""),)
    zstd_layers: bool = True

    @property
    def info(self) -> EngineInfo:
        """Facts that fit any engine."""
        info = EngineInfo(self.name, "1.0", "1", CgroupDriver.CGROUPFS, 1, f"/var/lib/{self.name}", self.handlers)
        return replace(info, zstd_layers=self.zstd_layers)


class FakeNode:
    """A node; a fit for migration's port, and for the kubelet below."""

    def __init__(self) -> None:
        self.docker, self.containerd = FakeSide(DOCKER), FakeSide(CONTAINERD)
        self.sandboxes: dict[str, SandboxRecord] = {}
        self.containers: dict[str, ContainerRecord] = {}
        self.generation = 0
        self.default = DOCKER
        self.pins: dict[str, str] = {}
        self.tombstones: set[str] = set()
        self.stores: dict[str, dict[str, ImageRecord]] = {DOCKER: {}, CONTAINERD: {}}
        self.removed: dict[str, set[str]] = {DOCKER: set(), CONTAINERD: set()}  # images that are still listed
        self.digests: dict[str, str] = {}
        self.setting_default, self.may_set_default = asyncio.Event(), asyncio.Event()
        self.may_set_default.set()
        self.faulty: set[str] = set()  # uids of pods whose pins cannot be taken away
        self._changed = asyncio.Event()

    # --- the port

    def sides(self) -> tuple[FakeSide, ...]:
        return self.docker, self.containerd

    def default_engine(self) -> str:
        return self.default

    def is_tombstone(self, object_id: str) -> bool:
        return object_id in self.tombstones

    def images(self, engine: str) -> Mapping[str, ImageRecord]:
        return self.stores[engine]

    async def wait_changed(self, generation: int, within_s: float) -> int:
        try:
            async with asyncio.timeout(within_s):
                while self.generation == generation:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.generation

    async def set_default_engine(self, engine: str) -> None:
        self.setting_default.set()
        await self.may_set_default.wait()
        self.default = engine

    async def pin(self, pod_uid: str, engine: str) -> None:
        self.pins[pod_uid] = engine

    async def unpin(self, pod_uid: str) -> None:
        if pod_uid in self.faulty:
            raise RuntimeError(f"a fault at {pod_uid}")
        self.pins.pop(pod_uid, None)

    async def report_not_ready(self, sandbox_id: str) -> None:
        if sandbox_id in self.sandboxes:
            self.put(replace(self.sandboxes[sandbox_id], state=SandboxState.NOTREADY))

    async def report_ready(self, sandbox_id: str) -> None:
        if not any(c.state is ContainerState.RUNNING for c in self.containers_of(sandbox_id)):
            raise FailedPrecondition("it does not run any more")
        self.put(replace(self.sandboxes[sandbox_id], state=SandboxState.READY))

    async def bury(self, sandbox_id: str) -> None:
        self.tombstones.add(sandbox_id)
        self.tombstones |= {container.id for container in self.containers_of(sandbox_id)}

    async def remember_copy(self, original: ImageRecord, copy_id: str) -> None:
        self.digests.update(dict.fromkeys(original.repo_digests, copy_id))

    async def refresh_images(self, engine: str) -> None:
        for image_id in self.removed[engine]:
            self.stores[engine].pop(image_id, None)
        self.removed[engine].clear()

    # --- what happens on the node

    def put(self, record: SandboxRecord | ContainerRecord) -> None:
        """Put a record, and wake who waits."""
        if isinstance(record, SandboxRecord):
            self.sandboxes[record.id] = record
        else:
            self.containers[record.id] = record
        self.touch()

    def touch(self) -> None:
        """Let a change be noticed."""
        self.generation += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def containers_of(self, sandbox_id: str) -> list[ContainerRecord]:
        """Return the containers of a sandbox."""
        return [record for record in self.containers.values() if record.sandbox_id == sandbox_id]

    def newest(self, uid: str) -> SandboxRecord | None:
        """Return a pod's newest sandbox."""
        own = [record for record in self.sandboxes.values() if record.spec.metadata.uid == uid]
        return max(own, key=lambda record: record.created_at_ns, default=None)

    def add_pod(
        self,
        name: str,
        *,
        engine: str = DOCKER,
        containers: Collection[str] = ("app",),
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        handler: str = "",
        owned: bool = True,
    ) -> str:
        """Run a pod as kubelet would, and return its uid; an `owned` one has a Deployment's label."""
        uid = f"uid-{name}"
        own = {"io.kubernetes.pod.uid": uid, "io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": name}
        own |= {"pod-template-hash": "5d4f"} if owned else {}
        spec = SandboxSpec(
            PodMetadata(name, uid, namespace),
            labels={**own, **(labels or {})},
            annotations=annotations or {},
            runtime_handler=handler,
        )
        sandbox = self.add_sandbox(spec, engine)
        for container in containers:
            self.add_container(sandbox, container)
        return uid

    def add_sandbox(self, spec: SandboxSpec, engine: str) -> SandboxRecord:
        """Add a READY sandbox."""
        number = next(_serial)
        sandbox = SandboxRecord(f"sandbox{number}-{os.getpid()}", spec, SandboxState.READY, number, engine, pid=number)
        self.put(sandbox)
        return sandbox

    def add_container(
        self, sandbox: SandboxRecord, name: str, attempt: int = 0, *, exit_code: int | None = None, image: str = "image"
    ) -> ContainerRecord:
        """Add a container that runs, or that has ended."""
        number = next(_serial)
        record = ContainerRecord(
            id=f"container{number}",
            sandbox_id=sandbox.id,
            spec=ContainerSpec(
                ContainerMetadata(name, attempt),
                ImageSpec(image),
                annotations={"io.kubernetes.pod.terminationGracePeriod": "0"},
            ),
            state=ContainerState.RUNNING if exit_code is None else ContainerState.EXITED,
            created_at_ns=number,
            started_at_ns=number,
            engine=sandbox.engine,
            image_id=image,
            image_ref=image,
            image_name=image,
            exit_code=exit_code or 0,
        )
        self.put(record)
        return record

    def end(self, container: ContainerRecord, exit_code: int) -> None:
        """Let a container end."""
        self.put(replace(container, state=ContainerState.EXITED, exit_code=exit_code, reason="Error"))

    def lose_power(self) -> None:
        """End everything that runs, as a reboot does."""
        for container in [record for record in self.containers.values() if record.state is ContainerState.RUNNING]:
            self.end(container, 255)
        for sandbox in list(self.sandboxes.values()):
            self.put(replace(sandbox, state=SandboxState.NOTREADY, pid=0))

    def engines_of_running(self, uid: str) -> set[str]:
        """Return the engines on which containers of a pod run."""
        ids = {record.id: record.engine for record in self.sandboxes.values() if record.spec.metadata.uid == uid}
        running = [c for c in self.containers.values() if c.state is ContainerState.RUNNING and c.sandbox_id in ids]
        return {ids[container.sandbox_id] for container in running}


class FakeKubelet:
    """Brings back every pod whose newest sandbox is NOTREADY, in the order of kubelet's steps (RCR-12 to RCR-16)."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.crashing: set[tuple[str, str]] = set()  # (pod uid, engine) where its containers end at once
        self.ignored: set[str] = set()  # uids that it does not bring back
        self.most_down = 0

    async def run(self) -> None:
        """Sync pods for ever."""
        generation = -1
        while True:
            for uid in {record.spec.metadata.uid for record in self.node.sandboxes.values()} - self.ignored:
                await self._sync(uid)
            generation = await self.node.wait_changed(generation, 1.0)

    async def _sync(self, uid: str) -> None:
        sandbox = self.node.newest(uid)
        if sandbox is None or sandbox.state is SandboxState.READY:
            return
        old = self.node.containers_of(sandbox.id)
        for container in old:
            if container.state is ContainerState.RUNNING:
                self.node.end(container, 143)
        self.most_down = max(self.most_down, self._down())
        await asyncio.sleep(0)
        metadata = sandbox.spec.metadata
        spec = replace(sandbox.spec, metadata=replace(metadata, attempt=metadata.attempt + 1))
        fresh = self.node.add_sandbox(spec, self.node.pins.get(uid, self.node.default))
        for container in old:
            name, attempt = container.spec.metadata.name, container.spec.metadata.attempt + 1
            exit_code = 1 if (uid, fresh.engine) in self.crashing else None
            self.node.add_container(fresh, name, attempt, exit_code=exit_code)

    def _down(self) -> int:
        uids = {record.spec.metadata.uid for record in self.node.sandboxes.values()}
        return sum(not self.node.engines_of_running(uid) for uid in uids)


class FakeTransfer(ImageTransfer):
    """Puts the record of an image into another store."""

    def __init__(self, node: FakeNode, target: str) -> None:
        self._node = node
        self._target = target
        self.copied: list[str] = []
        self.failing: set[str] = set()
        self.room = 1 << 40

    async def copy(self, image: ImageRecord, note: Note) -> str:
        await asyncio.sleep(0)
        if image.id in self.failing:
            raise Unknown("the stream broke")
        note(image.size_bytes)
        self.copied.append(image.id)
        self._node.stores[self._target][image.id] = image
        return image.id

    async def room_bytes(self) -> int:
        return self.room

    async def copies_content(self) -> bool:
        return True
