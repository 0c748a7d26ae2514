"""What pod metrics there are: a row a name, with its meaning, its label keys and where its values come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cri_dockerd_py.cgroups.filesystem import FilesystemFigures
from cri_dockerd_py.cgroups.processes import ProcessFigures
from cri_dockerd_py.cgroups.usage import CgroupUsage, DeviceIo
from cri_dockerd_py.core.writable_layers import LayerUsage
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.stats import MetricDescriptor, MetricType, NetworkInterfaceUsage, PsiStats

BASE_KEYS = ("pod", "namespace", "container", "id", "image")
_COUNTER, _GAUGE = MetricType.COUNTER, MetricType.GAUGE
_SECOND_NS = 1_000_000_000
#: The kernel's own values where a container asks for none.
_DEFAULT_PERIOD_US = 100_000
_DEFAULT_SHARES = 1024


@dataclass(frozen=True, slots=True)
class NamedDevice:
    """Traffic of a block device whose name is known."""

    name: str
    io: DeviceIo


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """Everything that a container's samples are made of."""

    record: ContainerRecord
    usage: CgroupUsage
    processes: ProcessFigures
    open_files_limit: int | None
    layer: LayerUsage
    filesystem: FilesystemFigures
    devices: tuple[NamedDevice, ...]
    now_ns: int


Labelled = Iterable[tuple[tuple[str, ...], int]]


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """A metric of containers; each value comes with the label values that follow the base ones."""

    descriptor: MetricDescriptor
    values: Callable[[ContainerFacts], Labelled]


@dataclass(frozen=True, slots=True)
class InterfaceRow:
    """A metric of a pod's network interfaces."""

    descriptor: MetricDescriptor
    value: Callable[[NetworkInterfaceUsage], int]


def _plain(kind: MetricType, name: str, help: str, value: Callable[[ContainerFacts], int]) -> ContainerRow:
    descriptor = MetricDescriptor(f"container_{name}", help, BASE_KEYS, kind)
    return ContainerRow(descriptor, lambda facts: (((), value(facts)),))


def _labelled(
    kind: MetricType, name: str, help: str, keys: tuple[str, ...], values: Callable[[ContainerFacts], Labelled]
) -> ContainerRow:
    return ContainerRow(MetricDescriptor(f"container_{name}", help, BASE_KEYS + keys, kind), values)


def _filesystem(name: str, help: str, value: Callable[[ContainerFacts], int]) -> ContainerRow:
    return _labelled(_GAUGE, name, help, ("device",), lambda facts: (((facts.filesystem.device,), value(facts)),))


def _device(name: str, help: str, value: Callable[[DeviceIo], int]) -> ContainerRow:
    return _labelled(
        _COUNTER, name, help, ("device",), lambda facts: [((one.name,), value(one.io)) for one in facts.devices]
    )


def _pressure(name: str, help: str, of: Callable[[ContainerFacts], PsiStats | None], *, full: bool) -> ContainerRow:
    def values(facts: ContainerFacts) -> Labelled:
        psi = of(facts)
        data = None if psi is None else (psi.full if full else psi.some)
        return () if data is None else (((), data.total_ns // _SECOND_NS),)

    return _labelled(_COUNTER, name, help, (), values)


def _interface(direction: str, name: str, help: str, value: Callable[[NetworkInterfaceUsage], int]) -> InterfaceRow:
    full_name = f"container_network_{direction}_{name}_total"
    return InterfaceRow(MetricDescriptor(full_name, help, (*BASE_KEYS, "interface"), _COUNTER), value)


def _block_operations(facts: ContainerFacts) -> Labelled:
    for device in facts.devices:
        major, _, minor = device.io.device.partition(":")
        yield (device.name, major, minor, "Read"), device.io.read_bytes
        yield (device.name, major, minor, "Write"), device.io.write_bytes


def _failures(facts: ContainerFacts) -> Labelled:
    basic, memory = facts.usage.basic, facts.usage.memory
    yield ("pgfault", "container"), memory.page_faults_own
    yield ("pgfault", "hierarchy"), basic.page_faults
    yield ("pgmajfault", "container"), memory.major_page_faults_own
    yield ("pgmajfault", "hierarchy"), basic.major_page_faults


def _open_files(facts: ContainerFacts) -> Labelled:
    return () if facts.open_files_limit is None else ((("max_open_files",), facts.open_files_limit),)


def _quota(facts: ContainerFacts) -> Labelled:
    quota_us = facts.record.resources.cpu_quota_us
    return (((), quota_us),) if quota_us > 0 else ()


_CPU = (
    _plain(_COUNTER, "cpu_usage_seconds_total", "CPU time used.", lambda f: f.usage.basic.cpu_usage_ns // _SECOND_NS),
    _plain(_COUNTER, "cpu_user_seconds_total", "CPU time in user mode.", lambda f: f.usage.cpu.user_ns // _SECOND_NS),
    _plain(
        _COUNTER, "cpu_system_seconds_total", "CPU time in the kernel.", lambda f: f.usage.cpu.system_ns // _SECOND_NS
    ),
    _plain(_COUNTER, "cpu_cfs_periods_total", "Enforcement periods that passed.", lambda f: f.usage.cpu.periods),
    _plain(
        _COUNTER,
        "cpu_cfs_throttled_periods_total",
        "Enforcement periods in which the quota was used up.",
        lambda f: f.usage.cpu.throttled_periods,
    ),
    _plain(
        _COUNTER,
        "cpu_cfs_throttled_seconds_total",
        "Time for which the container was kept from the CPU by its quota.",
        lambda f: f.usage.cpu.throttled_ns // _SECOND_NS,
    ),
)

_MEMORY = (
    _plain(_GAUGE, "memory_usage_bytes", "Memory in use, caches included.", lambda f: f.usage.basic.memory_usage_bytes),
    _plain(
        _GAUGE,
        "memory_working_set_bytes",
        "Memory in use less the file cache that can be dropped at once.",
        lambda f: f.usage.basic.working_set_bytes,
    ),
    _plain(_GAUGE, "memory_rss", "Anonymous memory.", lambda f: f.usage.basic.memory_rss_bytes),
    _plain(_GAUGE, "memory_cache", "Page cache.", lambda f: f.usage.memory.cache_bytes),
    _plain(_GAUGE, "memory_mapped_file", "Files mapped into memory.", lambda f: f.usage.memory.mapped_file_bytes),
    _plain(_GAUGE, "memory_swap", "Swap in use.", lambda f: f.usage.memory.swap_bytes),
    _plain(_GAUGE, "memory_kernel_usage", "Memory of the kernel.", lambda f: f.usage.memory.kernel_bytes),
    _plain(_GAUGE, "memory_max_usage_bytes", "Highest memory use so far.", lambda f: f.usage.memory.max_usage_bytes),
    _plain(_COUNTER, "memory_failcnt", "Times that the memory limit was hit.", lambda f: f.usage.memory.failures),
    _plain(
        _GAUGE,
        "memory_total_active_file_bytes",
        "File cache in active use.",
        lambda f: f.usage.memory.active_file_bytes,
    ),
    _plain(
        _GAUGE,
        "memory_total_inactive_file_bytes",
        "File cache that can be dropped at once.",
        lambda f: f.usage.basic.memory_inactive_file_bytes,
    ),
    _labelled(_COUNTER, "memory_failures_total", "Page faults.", ("failure_type", "scope"), _failures),
    _plain(_COUNTER, "oom_events_total", "Processes killed for lack of memory.", lambda f: f.usage.memory.oom_kills),
    _labelled(
        _GAUGE,
        "hugetlb_usage_bytes",
        "Huge pages in use.",
        ("pagesize",),
        lambda f: [((one.page_size,), one.usage_bytes) for one in f.usage.hugepages],
    ),
    _labelled(
        _GAUGE,
        "hugetlb_max_usage_bytes",
        "Highest use of huge pages so far.",
        ("pagesize",),
        lambda f: [((one.page_size,), one.max_usage_bytes) for one in f.usage.hugepages],
    ),
)

_FILESYSTEM = (
    _filesystem("fs_usage_bytes", "What the container has written to its own layer.", lambda f: f.layer.used_bytes),
    _filesystem("fs_limit_bytes", "Size of the file system of the layer.", lambda f: f.filesystem.size_bytes),
    _filesystem("fs_inodes_total", "Inodes of the file system of the layer.", lambda f: f.filesystem.inodes),
    _filesystem("fs_inodes_free", "Free inodes of that file system.", lambda f: f.filesystem.inodes_free),
    _device("fs_reads_total", "Read operations on a device.", lambda io: io.reads),
    _device("fs_reads_bytes_total", "Bytes read from a device.", lambda io: io.read_bytes),
    _device("fs_writes_total", "Write operations on a device.", lambda io: io.writes),
    _device("fs_writes_bytes_total", "Bytes written to a device.", lambda io: io.write_bytes),
    _labelled(
        _COUNTER,
        "blkio_device_usage_total",
        "Bytes moved to and from a block device.",
        ("device", "major", "minor", "operation"),
        _block_operations,
    ),
)

_PROCESSES = (
    _plain(_GAUGE, "processes", "Processes in the container.", lambda f: f.processes.processes),
    _plain(_GAUGE, "threads", "Threads in the container.", lambda f: f.usage.tasks),
    _plain(_GAUGE, "threads_max", "Most threads allowed; 0 is no limit.", lambda f: f.usage.tasks_limit),
    _plain(_GAUGE, "file_descriptors", "Open file descriptors.", lambda f: f.processes.file_descriptors),
    _plain(_GAUGE, "sockets", "Open sockets.", lambda f: f.processes.sockets),
    _labelled(_GAUGE, "ulimits_soft", "Soft limits of the first process.", ("ulimit",), _open_files),
)

_MISC = (
    _plain(_GAUGE, "last_seen", "When the container was last seen.", lambda f: f.now_ns // _SECOND_NS),
    _plain(_GAUGE, "start_time_seconds", "When it was started.", lambda f: f.record.started_at_ns // _SECOND_NS),
)

_SPEC = (
    _plain(
        _GAUGE,
        "spec_cpu_period",
        "Enforcement period, µs.",
        lambda f: f.record.resources.cpu_period_us or _DEFAULT_PERIOD_US,
    ),
    _labelled(_GAUGE, "spec_cpu_quota", "CPU time allowed in a period, µs.", (), _quota),
    _plain(_GAUGE, "spec_cpu_shares", "CPU shares.", lambda f: f.record.resources.cpu_shares or _DEFAULT_SHARES),
    _plain(
        _GAUGE,
        "spec_memory_limit_bytes",
        "Memory limit; 0 is none.",
        lambda f: f.usage.basic.memory_limit_bytes or f.record.resources.memory_limit_bytes,
    ),
    _plain(
        _GAUGE,
        "spec_memory_swap_limit_bytes",
        "Limit of memory and swap together; 0 is none.",
        lambda f: max(0, f.record.resources.memory_swap_limit_bytes),
    ),
    _plain(
        _GAUGE,
        "spec_memory_reservation_limit_bytes",
        "Memory that is kept back for the container; 0 is none.",
        lambda f: f.usage.memory.reservation_bytes,
    ),
)

_PRESSURE = tuple(
    row
    for kind, of in (
        ("cpu", lambda f: f.usage.basic.cpu_pressure),
        ("memory", lambda f: f.usage.basic.memory_pressure),
        ("io", lambda f: f.usage.basic.io_pressure),
    )
    for row in (
        _pressure(f"pressure_{kind}_waiting_seconds_total", f"Time that some tasks waited for {kind}.", of, full=False),
        _pressure(f"pressure_{kind}_stalled_seconds_total", f"Time that all tasks waited for {kind}.", of, full=True),
    )
)

CONTAINER_ROWS: tuple[ContainerRow, ...] = (
    *_CPU,
    *_MEMORY,
    *_FILESYSTEM,
    *_PROCESSES,
    *_MISC,
    *_SPEC,
    *_PRESSURE,
)

INTERFACE_ROWS: tuple[InterfaceRow, ...] = (
    _interface("receive", "bytes", "Bytes received.", lambda one: one.rx_bytes),
    _interface("receive", "packets", "Packets received.", lambda one: one.rx_packets),
    _interface("receive", "packets_dropped", "Received packets that were dropped.", lambda one: one.rx_dropped),
    _interface("receive", "errors", "Errors while receiving.", lambda one: one.rx_errors),
    _interface("transmit", "bytes", "Bytes sent.", lambda one: one.tx_bytes),
    _interface("transmit", "packets", "Packets sent.", lambda one: one.tx_packets),
    _interface("transmit", "packets_dropped", "Packets dropped while sending.", lambda one: one.tx_dropped),
    _interface("transmit", "errors", "Errors while sending.", lambda one: one.tx_errors),
)

DESCRIPTORS: tuple[MetricDescriptor, ...] = tuple(
    row.descriptor for rows in (CONTAINER_ROWS, INTERFACE_ROWS) for row in rows
)
