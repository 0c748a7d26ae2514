"""ListMetricDescriptors and ListPodSandboxMetrics: the figures of cAdvisor's names, read when they are asked for."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence

from cri_dockerd_py.cgroups.filesystem import FilesystemFigures, filesystem_of
from cri_dockerd_py.cgroups.proc_net import interfaces_of
from cri_dockerd_py.cgroups.processes import count_open, open_files_limit
from cri_dockerd_py.core.metric_rows import (
    CONTAINER_ROWS,
    DESCRIPTORS,
    INTERFACE_ROWS,
    ContainerFacts,
    NamedDevice,
)
from cri_dockerd_py.core.stats_inventory import Pod, StatsInventory
from cri_dockerd_py.core.stats_sampler import StatsSampler, StatsTarget
from cri_dockerd_py.core.writable_layers import LayerUsage, WritableLayers
from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.model.stats import ContainerMetrics, Metric, MetricDescriptor, PodSandboxMetrics

_LOG = logging.getLogger(__name__)
#: The samples are taken while the call waits (MET-04).
_LIVE = 0
_UNKNOWN_FILESYSTEM = FilesystemFigures("unknown", 0, 0, 0, 0)


class PodMetrics:
    """The public verbs; reading happens in the sampler's thread."""

    def __init__(
        self,
        inventory: StatsInventory,
        sampler: StatsSampler,
        layers: WritableLayers,
        layers_root: Callable[[str], str],
        proc_root: str = "/proc",
    ) -> None:
        self._inventory = inventory
        self._sampler = sampler
        self._layers = layers
        self._layers_root = layers_root
        self._proc_root = proc_root

    def descriptors(self) -> Sequence[MetricDescriptor]:
        """Return what there is; the same for the life of the service (MET-01)."""
        return DESCRIPTORS

    async def list_pods(self) -> list[PodSandboxMetrics]:
        """Return the samples of all ready pods (MET-02)."""
        ready = self._inventory.list_sandboxes(state=SandboxState.READY)
        pods: list[Pod] = [(record, self._inventory.containers_of(record.id)) for record in ready]
        return await self._sampler.in_thread(lambda: self._pods(pods))

    # --- in the sampler's thread

    def _pods(self, pods: Sequence[Pod]) -> list[PodSandboxMetrics]:
        filesystems = _Filesystems()
        return [
            PodSandboxMetrics(
                sandbox_id=sandbox.id,
                metrics=tuple(self._network(sandbox)),
                containers=tuple(self._containers(sandbox, containers, filesystems)),
            )
            for sandbox, containers in pods
        ]

    def _network(self, sandbox: SandboxRecord) -> Iterator[Metric]:
        if sandbox.spec.host_network or sandbox.pid <= 0:
            return
        base = (*_pod_labels(sandbox), "", sandbox.id, "")
        for interface in interfaces_of(sandbox.pid, self._proc_root) or ():
            labels = (*base, interface.name)
            for row in INTERFACE_ROWS:
                yield Metric(row.descriptor.name, _LIVE, row.descriptor.type, labels, row.value(interface))

    def _containers(
        self, sandbox: SandboxRecord, containers: Sequence[ContainerRecord], filesystems: _Filesystems
    ) -> Iterator[ContainerMetrics]:
        for record in containers:
            if record.state is ContainerState.RUNNING:
                samples = self._container(sandbox, record, filesystems)
                if samples is not None:
                    yield samples

    def _container(
        self, sandbox: SandboxRecord, record: ContainerRecord, filesystems: _Filesystems
    ) -> ContainerMetrics | None:
        """One bad container must not fail the list (STS-09)."""
        try:
            facts = self._facts(record, filesystems)
        except Exception:
            _LOG.exception("reading the figures of container %s failed; it is left out", record.id)
            return None
        return None if facts is None else ContainerMetrics(record.id, tuple(_samples(sandbox, facts)))

    def _facts(self, record: ContainerRecord, filesystems: _Filesystems) -> ContainerFacts | None:
        dirs = self._sampler.dirs(StatsTarget(record.id, record.pid))
        usage = None if dirs is None else self._sampler.reader.full(dirs)
        if dirs is None or usage is None:
            return None
        layer = self._layers.usage(record.id)
        return ContainerFacts(
            record=record,
            usage=usage,
            processes=count_open(self._sampler.reader.pids(dirs), self._proc_root),
            open_files_limit=open_files_limit(record.pid, self._proc_root),
            layer=layer or LayerUsage(0, 0, 0),
            filesystem=filesystems.of(self._layers_root(record.engine) or record.writable_layer_path),
            devices=tuple(NamedDevice(filesystems.device_name(io.device), io) for io in usage.devices),
            now_ns=time.time_ns(),
        )


def _samples(sandbox: SandboxRecord, facts: ContainerFacts) -> Iterator[Metric]:
    record = facts.record
    image = record.image_name or record.image_ref or record.image_id
    base = (*_pod_labels(sandbox), record.spec.metadata.name, record.id, image)
    for row in CONTAINER_ROWS:
        for labels, value in row.values(facts):
            yield Metric(row.descriptor.name, _LIVE, row.descriptor.type, base + labels, value)


def _pod_labels(sandbox: SandboxRecord) -> tuple[str, str]:
    return sandbox.spec.metadata.name, sandbox.spec.metadata.namespace


class _Filesystems:
    """File systems and device names, looked up once for all containers of a call."""

    def __init__(self) -> None:
        self._known: dict[str, FilesystemFigures] = {}
        self._names: dict[str, str] = {}

    def of(self, path: str) -> FilesystemFigures:
        if path not in self._known:
            self._known[path] = (path and filesystem_of(path)) or _UNKNOWN_FILESYSTEM
        return self._known[path]

    def device_name(self, number: str) -> str:
        if number not in self._names:
            self._names[number] = f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/block/{number}'))}"
        return self._names[number]
