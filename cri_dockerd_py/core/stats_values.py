"""Pure: from records and samples to the values that CRI's stats show."""

from __future__ import annotations

from collections.abc import Sequence

from cri_dockerd_py.cgroups.usage import BasicUsage
from cri_dockerd_py.core.stats_sampler import Sample
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import SandboxRecord
from cri_dockerd_py.model.stats import (
    ContainerAttributes,
    CpuUsage,
    IoUsage,
    MemoryUsage,
    NetworkInterfaceUsage,
    NetworkUsage,
    PodSandboxAttributes,
    SwapUsage,
)

_DEFAULT_INTERFACE = "eth0"


def container_attributes(record: ContainerRecord) -> ContainerAttributes:
    """Say whose numbers they are."""
    spec = record.spec
    return ContainerAttributes(record.id, spec.metadata, spec.labels, spec.annotations)


def sandbox_attributes(record: SandboxRecord) -> PodSandboxAttributes:
    """Say whose numbers they are."""
    spec = record.spec
    return PodSandboxAttributes(record.id, spec.metadata, spec.labels, spec.annotations)


def cpu_usage(sample: Sample) -> CpuUsage:
    """CPU time and rate."""
    usage = sample.usage
    return CpuUsage(sample.timestamp_ns, usage.cpu_usage_ns, sample.cpu_nano_cores, usage.cpu_pressure)


def memory_usage(sample: Sample) -> MemoryUsage:
    """Memory by kind (STS-04)."""
    usage = sample.usage
    limit = usage.memory_limit_bytes
    return MemoryUsage(
        timestamp_ns=sample.timestamp_ns,
        working_set_bytes=usage.working_set_bytes,
        available_bytes=0 if limit is None else max(0, limit - usage.working_set_bytes),
        usage_bytes=usage.memory_usage_bytes,
        rss_bytes=usage.memory_rss_bytes,
        page_faults=usage.page_faults,
        major_page_faults=usage.major_page_faults,
        psi=usage.memory_pressure,
    )


def swap_usage(sample: Sample) -> SwapUsage | None:
    """Swap, where the kernel counts it (STS-06)."""
    used, limit = sample.usage.swap_usage_bytes, sample.usage.swap_limit_bytes
    if used is None:
        return None
    return SwapUsage(sample.timestamp_ns, used, None if limit is None else max(0, limit - used))


def io_usage(sample: Sample) -> IoUsage | None:
    """Pressure on input and output, where the kernel tells it."""
    psi = sample.usage.io_pressure
    return None if psi is None else IoUsage(sample.timestamp_ns, psi)


def network_usage(timestamp_ns: int, interfaces: Sequence[NetworkInterfaceUsage]) -> NetworkUsage:
    """Tell the default interface, eth0 or the first, from the others (PST-03)."""
    default = next((one for one in interfaces if one.name == _DEFAULT_INTERFACE), interfaces[0] if interfaces else None)
    return NetworkUsage(timestamp_ns, default, tuple(one for one in interfaces if one is not default))


def sum_of(samples: Sequence[Sample]) -> Sample | None:
    """Add samples up; a limit of the sum is known only when all have one."""
    if not samples:
        return None
    usages = [sample.usage for sample in samples]
    rates = [sample.cpu_nano_cores for sample in samples if sample.cpu_nano_cores is not None]
    return Sample(
        timestamp_ns=max(sample.timestamp_ns for sample in samples),
        usage=BasicUsage(
            cpu_usage_ns=sum(usage.cpu_usage_ns for usage in usages),
            memory_usage_bytes=sum(usage.memory_usage_bytes for usage in usages),
            memory_inactive_file_bytes=sum(usage.memory_inactive_file_bytes for usage in usages),
            memory_rss_bytes=sum(usage.memory_rss_bytes for usage in usages),
            memory_limit_bytes=_sum([usage.memory_limit_bytes for usage in usages]),
            page_faults=sum(usage.page_faults for usage in usages),
            major_page_faults=sum(usage.major_page_faults for usage in usages),
            swap_usage_bytes=_sum([usage.swap_usage_bytes for usage in usages]),
            swap_limit_bytes=_sum([usage.swap_limit_bytes for usage in usages]),
        ),
        cpu_nano_cores=sum(rates) if len(rates) == len(samples) else None,
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
