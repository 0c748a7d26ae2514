"""A stateful fake of core: the real inventory and events, and verbs that change them without any engine."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cri_dockerd_py import errors
from cri_dockerd_py.core.events import Events
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.model.container import ContainerRecord, ContainerSpec, ContainerState, ImageSpec
from cri_dockerd_py.model.image import FilesystemUsage, ImageRecord, RegistryAuth
from cri_dockerd_py.model.node import CgroupDriver, Condition, RuntimeHandler
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.model.stats import (
    ContainerAttributes,
    ContainerMetrics,
    ContainerStats,
    CpuUsage,
    IoUsage,
    MemoryUsage,
    Metric,
    MetricDescriptor,
    MetricType,
    NetworkInterfaceUsage,
    NetworkUsage,
    PodSandboxAttributes,
    PodSandboxMetrics,
    PodSandboxStats,
    ProcessUsage,
    PsiData,
    PsiStats,
    SwapUsage,
)

IMAGE_ID = "sha256:" + "ab" * 32
_serial = itertools.count(1)


def new_id() -> str:
    """Return 64 hex digits that no other object has."""
    return hashlib.sha256(str(next(_serial)).encode()).hexdigest()


class Gate:
    """Lets a test hold verbs back, and make them fail."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.error: BaseException | None = None
        self.waiting = asyncio.Event()
        self.cancelled = 0

    async def __call__(self) -> None:
        """Pass, wait or fail, as the test has it."""
        if self.error is not None:
            raise self.error
        self.waiting.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Sandboxes:
    """Verbs on sandboxes."""

    def __init__(self, inventory: Inventory, gate: Gate) -> None:
        self._inventory = inventory
        self._gate = gate

    async def run(self, spec: SandboxSpec) -> str:
        await self._gate()
        taken = (record.spec.metadata for record in self._inventory.sandboxes.values())
        if spec.metadata in taken:
            raise errors.AlreadyExists(f"pod {spec.metadata.name!r} has a sandbox")
        if spec.runtime_handler:
            raise errors.InvalidArgument(f"runtime handler {spec.runtime_handler!r} is not known")
        ips = () if spec.host_network else ("10.1.0.9", "fd00::9")
        record = SandboxRecord(new_id(), spec, SandboxState.READY, time.time_ns(), "fake", pid=7, ips=ips)
        self._inventory.put_sandbox(record)
        return record.id

    async def stop(self, sandbox_id: str) -> None:
        await self._gate()
        try:
            record = self._inventory.sandbox(sandbox_id)
        except errors.NotFound:
            return
        for container in self._inventory.containers_of(record.id):
            self._inventory.mark_exited(container.id, 137, time.time_ns())
        self._inventory.put_sandbox(replace(record, state=SandboxState.NOTREADY, pid=0, ips=()))

    async def remove(self, sandbox_id: str) -> None:
        await self.stop(sandbox_id)
        try:
            record = self._inventory.sandbox(sandbox_id)
        except errors.NotFound:
            return
        for container in self._inventory.containers_of(record.id):
            self._inventory.drop_container(container.id)
        self._inventory.drop_sandbox(record.id)

    async def update_resources(self, sandbox_id: str, overhead: Resources | None, resources: Resources | None) -> None:
        await self._gate()
        record = self._inventory.sandbox(sandbox_id)
        spec = replace(record.spec, overhead=overhead, resources=resources)
        self._inventory.put_sandbox(replace(record, spec=spec))

    async def verbose(self, sandbox_id: str) -> Mapping[str, object]:
        return {"pid": self._inventory.sandbox(sandbox_id).pid}


class Containers:
    """Verbs on containers."""

    def __init__(self, inventory: Inventory, images: Images, gate: Gate) -> None:
        self._inventory = inventory
        self._images = images
        self._gate = gate

    async def create(self, sandbox_id: str, spec: ContainerSpec, log_directory: str = "") -> str:
        await self._gate()
        sandbox = self._inventory.sandbox(sandbox_id)
        if sandbox.state is not SandboxState.READY:
            raise errors.FailedPrecondition(f"sandbox {sandbox.id} is not ready")
        image = self._images.find(spec.image.image)
        if image is None:
            raise errors.NotFound(f"image {spec.image.image!r} not found")
        siblings = self._inventory.containers_of(sandbox.id)
        if any(sibling.spec.metadata == spec.metadata for sibling in siblings):
            raise errors.AlreadyExists(f"container {spec.metadata.name!r} exists")
        directory = sandbox.spec.log_directory
        record = ContainerRecord(
            id=new_id(),
            sandbox_id=sandbox.id,
            spec=spec,
            state=ContainerState.CREATED,
            created_at_ns=time.time_ns(),
            engine="fake",
            image_id=image.id,
            image_ref=(*image.repo_digests, image.id)[0],
            image_name=(*image.repo_tags, image.id)[0],
            log_path=f"{directory}/{spec.log_path}" if directory and spec.log_path else "",
            stop_signal=spec.stop_signal or 23,
            resources=spec.resources,
        )
        self._inventory.put_container(record)
        return record.id

    async def start(self, container_id: str) -> None:
        await self._gate()
        record = self._inventory.container(container_id)
        if record.state is not ContainerState.CREATED:
            raise errors.FailedPrecondition(f"container {record.id} was started before")
        self._inventory.put_container(
            replace(record, state=ContainerState.RUNNING, started_at_ns=time.time_ns(), pid=8)
        )

    async def stop(self, container_id: str, timeout_s: int) -> None:
        await self._gate()
        try:
            record = self._inventory.container(container_id)
        except errors.NotFound:
            return
        if record.state is ContainerState.RUNNING:
            self._inventory.mark_exited(record.id, 143 if timeout_s else 137, time.time_ns())

    async def remove(self, container_id: str) -> None:
        await self._gate()
        try:
            self._inventory.drop_container(self._inventory.container(container_id).id)
        except errors.NotFound:
            return

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        await self._gate()
        record = self._inventory.container(container_id)
        self._inventory.put_container(replace(record, resources=record.resources.merged(resources)))

    async def reopen_log(self, container_id: str) -> None:
        await self._gate()
        self._running(container_id)

    async def checkpoint(self, container_id: str, location: str, timeout_s: int) -> None:
        self._running(container_id)
        raise errors.Unimplemented("the fake engine cannot write checkpoints")

    async def verbose(self, container_id: str) -> Mapping[str, object]:
        return {"pid": self._inventory.container(container_id).pid, "odd": "\udc80"}

    def _running(self, container_id: str) -> ContainerRecord:
        record = self._inventory.container(container_id)
        if record.state is not ContainerState.RUNNING:
            raise errors.FailedPrecondition(f"container {record.id} is not running")
        return record


@dataclass(frozen=True)
class ExecResult:
    """Outcome of an ExecSync."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class Execution:
    """Answers with what was asked."""

    def __init__(self, inventory: Inventory, gate: Gate) -> None:
        self._inventory = inventory
        self._gate = gate

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout_s: int) -> ExecResult:
        await self._gate()
        self._inventory.container(container_id)
        if not command:
            raise errors.InvalidArgument("an empty command cannot be executed")
        exit_code = int(command[1]) if command[0] == "exit" else timeout_s % 200
        return ExecResult(" ".join(command).encode(), b"\xff\0", exit_code)

    async def exec_url(
        self, container_id: str, command: tuple[str, ...], tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        return (
            f"http://127.0.0.1:1/exec/{self._inventory.container(container_id).id}?{tty:d}{stdin:d}{stdout:d}{stderr:d}"
        )

    async def attach_url(self, container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        return f"http://127.0.0.1:1/attach/{self._inventory.container(container_id).id}?{tty:d}{stdin:d}{stdout:d}{stderr:d}"

    async def port_forward_url(self, sandbox_id: str, ports: tuple[int, ...]) -> str:
        return f"http://127.0.0.1:1/portforward/{self._inventory.sandbox(sandbox_id).id}?{ports}"


class Images:
    """Verbs on images."""

    def __init__(self, inventory: Inventory, gate: Gate) -> None:
        self._inventory = inventory
        self._gate = gate
        self.pulls: list[tuple[ImageSpec, RegistryAuth | None, SandboxSpec | None]] = []

    async def pull(self, spec: ImageSpec, auth: RegistryAuth | None, sandbox: SandboxSpec | None) -> str:
        await self._gate()
        self.pulls.append((spec, auth, sandbox))
        if (record := self.find(spec.image)) is None:
            record = ImageRecord("sha256:" + new_id(), (), (f"example.org/pulled@sha256:{new_id()}",), 1000)
            self._inventory.image_list.put("docker", record)
        return record.id

    async def remove(self, image: str) -> None:
        await self._gate()
        if (record := self.find(image)) is not None:
            self._inventory.image_list.drop("docker", record.id)

    def find(self, image: str) -> ImageRecord | None:
        return self._inventory.find_image(image)

    def filesystems(self) -> tuple[Sequence[FilesystemUsage], Sequence[FilesystemUsage]]:
        usage = FilesystemUsage(time.time_ns(), "/var/lib/fake", 0, 0)
        return (usage,), ()

    async def verbose(self, image_id: str) -> Mapping[str, object]:
        return {"chainID": "sha256:00"}


class Stats:
    """Numbers made from the clock."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def container(self, container_id: str) -> ContainerStats:
        return container_stats(self._inventory.container(container_id), time.time_ns())

    async def containers(
        self, id: str = "", sandbox_id: str = "", labels: Mapping[str, str] | None = None
    ) -> list[ContainerStats]:
        records = self._inventory.list_containers(id=id, sandbox_id=sandbox_id, labels=labels)
        return [container_stats(record, time.time_ns()) for record in records]

    async def sandbox(self, sandbox_id: str) -> PodSandboxStats:
        return self._sandbox(self._inventory.sandbox(sandbox_id))

    async def sandboxes(self, id: str = "", labels: Mapping[str, str] | None = None) -> list[PodSandboxStats]:
        return [self._sandbox(record) for record in self._inventory.list_sandboxes(id=id, labels=labels)]

    def metric_descriptors(self) -> tuple[MetricDescriptor, ...]:
        return (MetricDescriptor("container_threads", "Number of threads.", ("pod", "id"), MetricType.GAUGE),)

    async def sandbox_metrics(self) -> list[PodSandboxMetrics]:
        return [self._metrics(record) for record in self._inventory.sandboxes.values()]

    def _metrics(self, record: SandboxRecord) -> PodSandboxMetrics:
        sample = Metric("container_threads", 5, MetricType.GAUGE, (record.spec.metadata.name, record.id), 0)
        containers = self._inventory.containers_of(record.id)
        return PodSandboxMetrics(
            record.id, (sample,), tuple(ContainerMetrics(item.id, (sample,)) for item in containers)
        )

    def _sandbox(self, record: SandboxRecord) -> PodSandboxStats:
        now = time.time_ns()
        spec = record.spec
        interface = NetworkInterfaceUsage("eth0", 1, 2, 3, 4, 5, 6, 7, 0)
        return PodSandboxStats(
            PodSandboxAttributes(record.id, spec.metadata, spec.labels, spec.annotations),
            cpu=CpuUsage(now, 10**12),
            memory=memory(now),
            network=NetworkUsage(now, interface, (replace(interface, name="eth1"),)),
            process=ProcessUsage(now, 3),
            io=IoUsage(now, PSI),
            containers=tuple(container_stats(item, now) for item in self._inventory.containers_of(record.id)),
        )


PSI = PsiStats(some=PsiData(5, 0.5, 0.0, 99.25), full=PsiData(0, 0.0, 0.0, 0.0))


def memory(now_ns: int) -> MemoryUsage:
    """Return some memory."""
    return MemoryUsage(now_ns, 10**8, 0, 2**40, 5 * 10**7, 12345, 0, psi=PSI)


def container_stats(record: ContainerRecord, now_ns: int) -> ContainerStats:
    """Return numbers for a container; one that does not run has only its files."""
    spec = record.spec
    attributes = ContainerAttributes(record.id, spec.metadata, spec.labels, spec.annotations)
    files = FilesystemUsage(now_ns, "/var/lib/fake", 4096, 12)
    if record.state is not ContainerState.RUNNING:
        return ContainerStats(attributes, writable_layer=files)
    cpu = CpuUsage(now_ns, 123_456_789_012, usage_nano_cores=0)
    return ContainerStats(attributes, cpu, memory(now_ns), files, SwapUsage(now_ns, 0), None)


@dataclass
class NodeStatus:
    """Facts that a test may change."""

    known_version: tuple[str, str, str] = ("fake", "1.2.3", "v1")
    known_conditions: tuple[Condition, ...] = (Condition("RuntimeReady", True), Condition("NetworkReady", True))
    driver: CgroupDriver | None = CgroupDriver.CGROUPFS
    pod_cidrs: list[str] = field(default_factory=list)

    def conditions(self) -> tuple[Condition, ...]:
        return self.known_conditions

    def handlers(self) -> tuple[RuntimeHandler, ...]:
        return RuntimeHandler(""), RuntimeHandler("crun", recursive_read_only_mounts=True)

    def supplemental_groups_policy(self) -> bool:
        return True

    def version(self) -> tuple[str, str, str]:
        return self.known_version

    def cgroup_driver(self) -> CgroupDriver | None:
        return self.driver

    def verbose(self) -> Mapping[str, object]:
        return {"config": {"stateDir": "/run/fake"}}

    def update_pod_cidr(self, cidr: str) -> None:
        self.pod_cidrs.append(cidr)


class FakeNode:
    """The rooms of core together."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.inventory = Inventory()
        self.inventory.known = True
        self.events = Events(self.inventory)
        self.images = Images(self.inventory, self.gate)
        self.sandboxes = Sandboxes(self.inventory, self.gate)
        self.containers = Containers(self.inventory, self.images, self.gate)
        self.execution = Execution(self.inventory, self.gate)
        self.stats = Stats(self.inventory)
        self.status = NodeStatus()
        tags, digests = ("docker.io/library/busybox:latest",), ("docker.io/library/busybox@sha256:" + "cd" * 32,)
        self.inventory.image_list.put("docker", ImageRecord(IMAGE_ID, tags, digests, 1234567, uid=0, pinned=True))
