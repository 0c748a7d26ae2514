"""Usage of containers and pods (STS, PST). Messages are filled in place: that is several times faster than building."""

from __future__ import annotations

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.encode.container import container_metadata
from cri_dockerd_py.cri.encode.sandbox import sandbox_metadata
from cri_dockerd_py.cri.encode.text import clean
from cri_dockerd_py.model.image import FilesystemUsage
from cri_dockerd_py.model.stats import (
    ContainerAttributes,
    ContainerStats,
    CpuUsage,
    IoUsage,
    MemoryUsage,
    NetworkInterfaceUsage,
    NetworkUsage,
    PodSandboxAttributes,
    PodSandboxStats,
    ProcessUsage,
    PsiData,
    PsiStats,
    SwapUsage,
)


def container_attributes(attributes: ContainerAttributes) -> pb.ContainerAttributes:
    """Return whose numbers they are."""
    return pb.ContainerAttributes(
        id=attributes.id,
        metadata=container_metadata(attributes.metadata),
        labels=attributes.labels,
        annotations=attributes.annotations,
    )


def sandbox_attributes(attributes: PodSandboxAttributes) -> pb.PodSandboxAttributes:
    """Return whose numbers they are."""
    return pb.PodSandboxAttributes(
        id=attributes.id,
        metadata=sandbox_metadata(attributes.metadata),
        labels=attributes.labels,
        annotations=attributes.annotations,
    )


def fill_container(target: pb.ContainerStats, stats: ContainerStats) -> None:
    """Set everything but the attributes in an empty message."""
    if stats.cpu is not None:
        _cpu(target.cpu, stats.cpu)
    if stats.memory is not None:
        _memory(target.memory, stats.memory)
    if stats.writable_layer is not None:
        _filesystem(target.writable_layer, stats.writable_layer)
    if stats.swap is not None:
        _swap(target.swap, stats.swap)
    if stats.io is not None:
        _io(target.io, stats.io)


def fill_linux_sandbox(target: pb.LinuxPodSandboxStats, stats: PodSandboxStats) -> None:
    """Set everything but the containers in an empty message."""
    if stats.cpu is not None:
        _cpu(target.cpu, stats.cpu)
    if stats.memory is not None:
        _memory(target.memory, stats.memory)
    if stats.network is not None:
        _network(target.network, stats.network)
    if stats.process is not None:
        _process(target.process, stats.process)
    if stats.io is not None:
        _io(target.io, stats.io)


def _cpu(target: pb.CpuUsage, cpu: CpuUsage) -> None:
    target.timestamp = cpu.timestamp_ns
    target.usage_core_nano_seconds.value = cpu.usage_core_nano_seconds
    if cpu.usage_nano_cores is not None:
        target.usage_nano_cores.value = cpu.usage_nano_cores
    if cpu.psi is not None:
        _psi(target.psi, cpu.psi)


def _memory(target: pb.MemoryUsage, memory: MemoryUsage) -> None:
    target.timestamp = memory.timestamp_ns
    target.working_set_bytes.value = memory.working_set_bytes
    target.available_bytes.value = memory.available_bytes
    target.usage_bytes.value = memory.usage_bytes
    target.rss_bytes.value = memory.rss_bytes
    target.page_faults.value = memory.page_faults
    target.major_page_faults.value = memory.major_page_faults
    if memory.psi is not None:
        _psi(target.psi, memory.psi)


def _filesystem(target: pb.FilesystemUsage, usage: FilesystemUsage) -> None:
    target.timestamp = usage.timestamp_ns
    target.fs_id.mountpoint = clean(usage.mountpoint)
    target.used_bytes.value = usage.used_bytes
    target.inodes_used.value = usage.inodes_used


def _swap(target: pb.SwapUsage, swap: SwapUsage) -> None:
    target.timestamp = swap.timestamp_ns
    target.swap_usage_bytes.value = swap.usage_bytes
    if swap.available_bytes is not None:
        target.swap_available_bytes.value = swap.available_bytes


def _io(target: pb.IoUsage, io: IoUsage) -> None:
    target.timestamp = io.timestamp_ns
    _psi(target.psi, io.psi)


def _psi(target: pb.PsiStats, psi: PsiStats) -> None:
    _psi_data(target.Some, psi.some)
    if psi.full is not None:
        _psi_data(target.Full, psi.full)


def _psi_data(target: pb.PsiData, data: PsiData) -> None:
    target.Total = data.total_ns
    target.Avg10 = data.avg10
    target.Avg60 = data.avg60
    target.Avg300 = data.avg300


def _network(target: pb.NetworkUsage, network: NetworkUsage) -> None:
    target.timestamp = network.timestamp_ns
    if network.default_interface is not None:
        _interface(target.default_interface, network.default_interface)
    for usage in network.interfaces:
        _interface(target.interfaces.add(), usage)


def _interface(target: pb.NetworkInterfaceUsage, usage: NetworkInterfaceUsage) -> None:
    target.name = clean(usage.name)
    target.rx_bytes.value = usage.rx_bytes
    target.rx_errors.value = usage.rx_errors
    target.tx_bytes.value = usage.tx_bytes
    target.tx_errors.value = usage.tx_errors


def _process(target: pb.ProcessUsage, process: ProcessUsage) -> None:
    target.timestamp = process.timestamp_ns
    target.process_count.value = process.process_count
