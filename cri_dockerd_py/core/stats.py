"""ContainerStats, PodSandboxStats and their lists: from cgroup files and memory, with no call to an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from cri_dockerd_py.cgroups.base import CgroupReader
from cri_dockerd_py.cgroups.filesystem import overlay_upper_of
from cri_dockerd_py.cgroups.proc_net import interfaces_of
from cri_dockerd_py.core.pod_metrics import PodMetrics
from cri_dockerd_py.core.stats_inventory import Pod, StatsInventory
from cri_dockerd_py.core.stats_sampler import Sample, StatsSampler, StatsTarget
from cri_dockerd_py.core.stats_values import (
    container_attributes,
    cpu_usage,
    io_usage,
    memory_usage,
    network_usage,
    sandbox_attributes,
    sum_of,
    swap_usage,
)
from cri_dockerd_py.core.writable_layers import WritableLayers
from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.image import FilesystemUsage
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.model.stats import (
    ContainerStats,
    MetricDescriptor,
    NetworkUsage,
    PodSandboxMetrics,
    PodSandboxStats,
    ProcessUsage,
)


class Stats:
    """The public verbs. `layers_root` returns the directory of an engine's writable layers, "" when not known."""

    def __init__(
        self,
        inventory: StatsInventory,
        reader: CgroupReader,
        layers_root: Callable[[str], str],
        proc_root: str = "/proc",
    ) -> None:
        self._inventory = inventory
        self._layers_root = layers_root
        self._proc_root = proc_root
        self._found_layers: dict[str, str] = {}
        self._sampler = StatsSampler(reader)
        self.layers = WritableLayers(self._layer_paths)
        self._metrics = PodMetrics(inventory, self._sampler, self.layers, layers_root, proc_root)
        inventory.on_container.append(self._container_changed)
        inventory.on_sandbox.append(self._sandbox_changed)

    def start(self) -> None:
        """Start measuring writable layers; all else is done when it is asked for."""
        self.layers.start()

    def close(self) -> None:
        """End both threads; may be called twice."""
        self.layers.close()
        self._sampler.close()

    def _container_changed(self, old: ContainerRecord | None, new: ContainerRecord | None) -> None:
        if old is not None and (new is None or new.state is ContainerState.EXITED):
            self._sampler.forget_soon(old.id)

    def _sandbox_changed(self, old: SandboxRecord | None, new: SandboxRecord | None) -> None:
        if old is not None and (new is None or new.state is SandboxState.NOTREADY):
            self._sampler.forget_soon(old.id)

    def _layer_paths(self) -> dict[str, str]:
        """Return container id → writable layer; called in another thread, so the records are copied in one step.

        Where the engine does not tell, the process's mounts do, and what they told is kept when the process has ended.
        """
        paths: dict[str, str] = {}
        for record in list(self._inventory.containers.values()):
            path = record.writable_layer_path or self._found_layers.get(record.id, "")
            if not path and record.pid > 0:
                path = overlay_upper_of(record.pid, self._proc_root)
            paths[record.id] = path
        self._found_layers = paths
        return paths

    async def container(self, container_id: str) -> ContainerStats:
        """Return the numbers of a running container (STS-01)."""
        record = self._inventory.container(container_id)
        if record.state is not ContainerState.RUNNING:
            raise FailedPrecondition(f"container {record.id} is {record.state.name}: only running ones have stats")
        found = await self._sampler.in_thread(lambda: self._container(record))
        if found is None:
            raise FailedPrecondition(
                f"container {record.id} has no cgroup any more: it is ending; list containers again"
            )
        return found

    async def containers(
        self, id: str = "", sandbox_id: str = "", labels: Mapping[str, str] | None = None
    ) -> list[ContainerStats]:
        """Return the numbers of running containers; without a condition also the layers of ended ones (STS-08)."""
        records = self._inventory.list_containers(id=id, sandbox_id=sandbox_id, labels=labels)
        if id or sandbox_id or labels:
            records = [record for record in records if record.state is ContainerState.RUNNING]
        return await self._sampler.in_thread(lambda: self._containers(records))

    async def sandbox(self, sandbox_id: str) -> PodSandboxStats:
        """Return the numbers of a ready pod (PST-04)."""
        record = self._inventory.sandbox(sandbox_id)
        if record.state is not SandboxState.READY:
            raise FailedPrecondition(f"sandbox {record.id} is not ready: only ready ones have stats")
        pod = self._pod(record)
        found = await self._sampler.in_thread(lambda: self._sandbox(*pod))
        if found is None:
            raise FailedPrecondition(f"sandbox {record.id} has no cgroup any more: it is ending; list sandboxes again")
        return found

    async def sandboxes(self, id: str = "", labels: Mapping[str, str] | None = None) -> list[PodSandboxStats]:
        """Return the numbers of ready pods."""
        pods = [self._pod(record) for record in self._inventory.list_sandboxes(id, SandboxState.READY, labels)]
        found = await self._sampler.in_thread(lambda: [self._sandbox(*pod) for pod in pods])
        return [stats for stats in found if stats is not None]

    def metric_descriptors(self) -> Sequence[MetricDescriptor]:
        """Return what metrics there are; the same for the life of the service (MET-01)."""
        return self._metrics.descriptors()

    async def sandbox_metrics(self) -> list[PodSandboxMetrics]:
        """Return the samples of all ready pods (MET-02)."""
        return await self._metrics.list_pods()

    def _pod(self, record: SandboxRecord) -> Pod:
        containers = self._inventory.containers_of(record.id)
        return record, [one for one in containers if one.state is ContainerState.RUNNING]

    # --- in the sampler's thread

    def _containers(self, records: Sequence[ContainerRecord]) -> list[ContainerStats]:
        found = [self._container(record) for record in records]
        return [stats for stats in found if stats is not None]

    def _container(self, record: ContainerRecord) -> ContainerStats | None:
        attributes, layer = container_attributes(record), self._layer(record)
        if record.state is not ContainerState.RUNNING:
            return ContainerStats(attributes=attributes, writable_layer=layer)
        sample = self._sampler.sample(StatsTarget(record.id, record.pid))
        if sample is None:
            return None
        return ContainerStats(
            attributes=attributes,
            cpu=cpu_usage(sample),
            memory=memory_usage(sample),
            writable_layer=layer,
            swap=swap_usage(sample),
            io=io_usage(sample),
        )

    def _layer(self, record: ContainerRecord) -> FilesystemUsage | None:
        usage = self.layers.usage(record.id)
        if usage is None:
            return None
        mountpoint = self._layers_root(record.engine) or record.writable_layer_path
        return FilesystemUsage(usage.timestamp_ns, mountpoint, usage.used_bytes, usage.inodes_used)

    def _sandbox(self, record: SandboxRecord, containers: Sequence[ContainerRecord]) -> PodSandboxStats | None:
        sample = self._pod_sample(record, containers)
        if sample is None:
            return None
        return PodSandboxStats(
            attributes=sandbox_attributes(record),
            cpu=cpu_usage(sample),
            memory=memory_usage(sample),
            network=self._network(record),
            process=self._processes(record, containers),
            io=io_usage(sample),
            containers=tuple(self._containers(containers)),
        )

    def _pod_sample(self, record: SandboxRecord, containers: Sequence[ContainerRecord]) -> Sample | None:
        """Return a sample of the pod's own cgroup; without one, the sum over its processes' cgroups."""
        own = _pod_target(record)
        if own is not None and (sample := self._sampler.sample(own)) is not None:
            return sample
        samples = [self._sampler.sample(target) for target in _members(record, containers)]
        return sum_of([sample for sample in samples if sample is not None])

    def _network(self, record: SandboxRecord) -> NetworkUsage | None:
        if record.spec.host_network or record.pid <= 0:
            return None
        interfaces = interfaces_of(record.pid, self._proc_root)
        return None if interfaces is None else network_usage(time.time_ns(), interfaces)

    def _processes(self, record: SandboxRecord, containers: Sequence[ContainerRecord]) -> ProcessUsage:
        """Count tasks in the pod's own cgroup; without one, in its processes' cgroups."""
        own = _pod_target(record)
        dirs = None if own is None else self._sampler.dirs(own)
        found = [self._sampler.dirs(target) for target in _members(record, containers)] if dirs is None else [dirs]
        counts = [self._sampler.reader.task_count(dirs) for dirs in found if dirs is not None]
        return ProcessUsage(time.time_ns(), sum(count for count in counts if count is not None))


def _pod_target(record: SandboxRecord) -> StatsTarget | None:
    parent = record.spec.cgroup_parent
    return StatsTarget(record.id, record.pid, parent) if parent else None


def _members(record: SandboxRecord, containers: Sequence[ContainerRecord]) -> list[StatsTarget]:
    return [StatsTarget(record.id, record.pid), *(StatsTarget(one.id, one.pid) for one in containers)]
