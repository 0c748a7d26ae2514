"""Stats: what is put together from ready bytes is what the protobuf library makes of the same numbers."""

from __future__ import annotations

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from tests.cri.conftest import Edge


def number(value: int) -> cri.UInt64Value:
    return cri.UInt64Value(value=value)


def psi() -> cri.PsiStats:
    return cri.PsiStats(Some=cri.PsiData(Total=5, Avg10=0.5, Avg300=99.25), Full=cri.PsiData())


def memory(timestamp: int) -> cri.MemoryUsage:
    return cri.MemoryUsage(
        timestamp=timestamp,
        working_set_bytes=number(10**8),
        available_bytes=number(0),
        usage_bytes=number(2**40),
        rss_bytes=number(5 * 10**7),
        page_faults=number(12345),
        major_page_faults=number(0),
        psi=psi(),
    )


def running(status: cri.ContainerStatus, timestamp: int) -> cri.ContainerStats:
    attributes = cri.ContainerAttributes(
        id=status.id, metadata=status.metadata, labels=status.labels, annotations=status.annotations
    )
    files = cri.FilesystemUsage(
        timestamp=timestamp,
        fs_id=cri.FilesystemIdentifier(mountpoint="/var/lib/fake"),
        used_bytes=number(4096),
        inodes_used=number(12),
    )
    cpu = cri.CpuUsage(timestamp=timestamp, usage_core_nano_seconds=number(123_456_789_012), usage_nano_cores=number(0))
    swap = cri.SwapUsage(timestamp=timestamp, swap_usage_bytes=number(0))
    return cri.ContainerStats(attributes=attributes, cpu=cpu, memory=memory(timestamp), writable_layer=files, swap=swap)


@pytest.mark.behaviour("STS-02", "STS-03", "STS-04", "STS-05", "STS-06", "STS-08", "STS-10")
async def test_container_stats(edge: Edge) -> None:
    pod_id = await edge.run_pod()
    first = await edge.start(pod_id, labels={"app": "x"}, annotations={"note": "y"})
    idle = await edge.create(pod_id, "idle")
    statuses = {
        container_id: (await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id))).status
        for container_id in (first, idle)
    }

    one = (await edge.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=first))).stats
    listed = (await edge.runtime.ListContainerStats(cri.ListContainerStatsRequest())).stats
    stream = edge.runtime.StreamContainerStats(
        cri.StreamContainerStatsRequest(filter=cri.ContainerStatsFilter(label_selector={"app": "x"}))
    )
    [streamed] = [stats async for message in stream for stats in message.container_stats]

    by_id = {stats.attributes.id: stats for stats in listed}
    assert one == running(statuses[first], one.cpu.timestamp)
    assert by_id[first] == running(statuses[first], by_id[first].cpu.timestamp)
    assert streamed == running(statuses[first], streamed.cpu.timestamp)
    assert by_id[idle].HasField("writable_layer")
    assert not by_id[idle].HasField("cpu")
    assert one.cpu.timestamp < by_id[first].cpu.timestamp < streamed.cpu.timestamp


@pytest.mark.behaviour("PST-02", "PST-03", "PST-05")
async def test_sandbox_stats(edge: Edge) -> None:
    pod_id = await edge.run_pod(labels={"app": "x"})
    container_id = await edge.start(pod_id)
    status = (await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id))).status
    pod = (await edge.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id))).status

    one = (await edge.runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=pod_id))).stats
    [listed] = (await edge.runtime.ListPodSandboxStats(cri.ListPodSandboxStatsRequest())).stats
    stream = edge.runtime.StreamPodSandboxStats(cri.StreamPodSandboxStatsRequest())
    [streamed] = [stats async for message in stream for stats in message.pod_sandbox_stats]

    for stats in (one, listed, streamed):
        at = stats.linux.cpu.timestamp
        usage = cri.NetworkInterfaceUsage(
            name="eth0", rx_bytes=number(1), rx_errors=number(3), tx_bytes=number(5), tx_errors=number(7)
        )
        other = cri.NetworkInterfaceUsage(
            name="eth1", rx_bytes=number(1), rx_errors=number(3), tx_bytes=number(5), tx_errors=number(7)
        )
        linux = cri.LinuxPodSandboxStats(
            cpu=cri.CpuUsage(timestamp=at, usage_core_nano_seconds=number(10**12)),
            memory=memory(at),
            network=cri.NetworkUsage(timestamp=at, default_interface=usage, interfaces=[other]),
            process=cri.ProcessUsage(timestamp=at, process_count=number(3)),
            containers=[running(status, at)],
            io=cri.IoUsage(timestamp=at, psi=psi()),
        )
        attributes = cri.PodSandboxAttributes(id=pod_id, metadata=pod.metadata, labels={"app": "x"})
        assert stats == cri.PodSandboxStats(attributes=attributes, linux=linux)
