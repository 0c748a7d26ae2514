"""Numbers about running containers and pods, shaped like CRI's stats and metrics. None means "not known"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from cri_dockerd_py.model.container import ContainerMetadata
from cri_dockerd_py.model.image import FilesystemUsage
from cri_dockerd_py.model.sandbox import PodMetadata


@dataclass(frozen=True, slots=True)
class PsiData:
    """One line of a pressure file: shares of time in percent, and the time stalled since the cgroup was made."""

    total_ns: int
    avg10: float
    avg60: float
    avg300: float


@dataclass(frozen=True, slots=True)
class PsiStats:
    """Pressure: `some` when at least one task waited, `full` when all did."""

    some: PsiData
    full: PsiData | None = None


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """CPU time used so far, and the rate since an earlier sample if there is one (STS-03)."""

    timestamp_ns: int
    usage_core_nano_seconds: int
    usage_nano_cores: int | None = None
    psi: PsiStats | None = None


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory in use; `available_bytes` is 0 without a limit (STS-04)."""

    timestamp_ns: int
    working_set_bytes: int
    available_bytes: int
    usage_bytes: int
    rss_bytes: int
    page_faults: int
    major_page_faults: int
    psi: PsiStats | None = None


@dataclass(frozen=True, slots=True)
class IoUsage:
    """Pressure on input and output."""

    timestamp_ns: int
    psi: PsiStats


@dataclass(frozen=True, slots=True)
class SwapUsage:
    """Swap in use; `available_bytes` is None without a limit."""

    timestamp_ns: int
    usage_bytes: int
    available_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ContainerAttributes:
    """Whose numbers they are (STS-02)."""

    id: str
    metadata: ContainerMetadata
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """CRI ContainerStats."""

    attributes: ContainerAttributes
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    writable_layer: FilesystemUsage | None = None
    swap: SwapUsage | None = None
    io: IoUsage | None = None


@dataclass(frozen=True, slots=True)
class NetworkInterfaceUsage:
    """Counters of one interface, seen from inside the pod."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class NetworkUsage:
    """`interfaces` are the ones beside the default one; the loopback is in neither (PST-03)."""

    timestamp_ns: int
    default_interface: NetworkInterfaceUsage | None
    interfaces: tuple[NetworkInterfaceUsage, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Number of tasks."""

    timestamp_ns: int
    process_count: int


@dataclass(frozen=True, slots=True)
class PodSandboxAttributes:
    """Whose numbers they are."""

    id: str
    metadata: PodMetadata
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PodSandboxStats:
    """CRI PodSandboxStats with its Linux part (PST-02)."""

    attributes: PodSandboxAttributes
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    network: NetworkUsage | None = None
    process: ProcessUsage | None = None
    io: IoUsage | None = None
    containers: tuple[ContainerStats, ...] = ()


class MetricType(IntEnum):
    """CRI MetricType, with the wire's numbers."""

    COUNTER = 0
    GAUGE = 1


@dataclass(frozen=True, slots=True)
class MetricDescriptor:
    """Name, meaning and label keys of a metric; the type is told with each sample."""

    name: str
    help: str
    label_keys: tuple[str, ...]
    type: MetricType


@dataclass(frozen=True, slots=True)
class Metric:
    """One sample; `label_values` are in the order of the descriptor's keys (MET-03), `value` is unsigned (MET-04)."""

    name: str
    timestamp_ns: int
    type: MetricType
    label_values: tuple[str, ...]
    value: int


@dataclass(frozen=True, slots=True)
class ContainerMetrics:
    """Samples of one container."""

    container_id: str
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class PodSandboxMetrics:
    """Samples of one pod and of its containers."""

    sandbox_id: str
    metrics: tuple[Metric, ...]
    containers: tuple[ContainerMetrics, ...]
