"""Stats of containers and pods, and pod metrics."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, eventually, refused
from tests.behaviour.conftest import host_network

MIB = 1024 * 1024
HAS_SWAP_ACCOUNTING = any(
    Path("/sys/fs/cgroup", path).exists()
    for path in ("memory/memory.memsw.limit_in_bytes", "system.slice/memory.swap.max")
)
LABELS = {"io.kubernetes.pod.name": "p", "a": "b"}


@pytest.fixture(scope="module")
def pod(cri: Cri, cgroup_parent: str) -> Iterator[Pod]:
    """A pod in a cgroup of its own, as kubelet makes one for each."""
    pod = cri.run_pod(cri.pod_config(linux=pb.LinuxPodSandboxConfig(cgroup_parent=cgroup_parent)))
    yield pod
    pod.remove()


@pytest.fixture(scope="module")
def host_pod(cri: Cri, cgroup_parent: str) -> Iterator[Pod]:
    """The same in the host's network."""
    linux = pb.LinuxPodSandboxConfig(cgroup_parent=cgroup_parent, security_context=host_network())
    pod = cri.run_pod(cri.pod_config(linux=linux))
    yield pod
    pod.remove()


@pytest.fixture
def new_pod(new_pod: Callable[..., Pod], cgroup_parent: str) -> Callable[..., Pod]:
    """A function that runs a pod in the cgroup of these tests."""
    return functools.partial(new_pod, linux=pb.LinuxPodSandboxConfig(cgroup_parent=cgroup_parent))


@pytest.fixture(scope="module")
def busy(pod: Pod) -> Container:
    """A container with limits that computes a little and has written files, as the metrics' check wants it."""
    script = (
        "for i in 0 1 2 3 4 5 6 7 8 9; do echo $i >/file$i; done; "
        "while :; do i=$((i+1)); done & sleep 4; kill $!; wait; sleep 9999"
    )
    resources = pb.LinuxContainerResources(
        cpu_period=100_000,
        cpu_quota=50_000,
        cpu_shares=512,
        memory_limit_in_bytes=64 * MIB,
        memory_swap_limit_in_bytes=64 * MIB,
    )
    container = pod.start(
        "sh",
        "-c",
        script,
        labels=LABELS,
        annotations={"c": "d"},
        linux=pb.LinuxContainerConfig(resources=resources),
    )
    eventually(lambda: container.sh("ls /file9 2>/dev/null || true"), bool, "the files")
    return container


def stats_of(container: Container) -> pb.ContainerStats:
    """Return the stats of a container."""
    return container.cri("ContainerStats", container_id=container.id).stats


@pytest.mark.behaviour("STS-02", "STS-03", "STS-04")
def test_stats_have_all_that_kubelet_reads(busy: Container) -> None:
    before = time.time_ns()
    stats = stats_of(busy)
    assert stats.attributes.id == busy.id
    assert stats.attributes.metadata == busy.config.metadata
    assert dict(stats.attributes.labels) == LABELS
    assert dict(stats.attributes.annotations) == {"c": "d"}
    assert before - 30 * 10**9 < stats.cpu.timestamp <= time.time_ns()
    assert stats.cpu.usage_core_nano_seconds.value > 0
    assert stats.memory.timestamp
    assert 0 < stats.memory.working_set_bytes.value <= stats.memory.usage_bytes.value
    assert 0 < stats.memory.rss_bytes.value <= 64 * MIB
    assert stats.memory.available_bytes.value == 64 * MIB - stats.memory.working_set_bytes.value
    assert stats.memory.page_faults.value > 0
    assert stats.memory.HasField("major_page_faults")


@pytest.mark.behaviour("STS-05")
def test_writable_layer_counts_what_was_written(busy: Container, pod: Pod) -> None:
    writer = pod.start("sh", "-c", "head -c 8000000 /dev/zero >/big; sleep 1000")

    def layer() -> pb.FilesystemUsage:
        return stats_of(writer).writable_layer

    grown = eventually(layer, lambda usage: usage.used_bytes.value >= 8_000_000, "the written bytes", 30)
    assert grown.timestamp
    assert grown.inodes_used.value > 0
    assert Path(grown.fs_id.mountpoint).exists()
    other = stats_of(busy).writable_layer
    assert other.fs_id.mountpoint == grown.fs_id.mountpoint


@pytest.mark.behaviour("STS-07", "PST-06")
def test_counters_and_their_time_move(cri: Cri, pod: Pod) -> None:
    container = pod.start("sh", "-c", "while :; do :; done")
    first, first_pod = stats_of(container), cri("PodSandboxStats", pod_sandbox_id=pod.id).stats
    threading.Event().wait(1.1)
    second, second_pod = stats_of(container), cri("PodSandboxStats", pod_sandbox_id=pod.id).stats
    container.stop()
    assert second.cpu.timestamp - first.cpu.timestamp >= 500_000_000
    assert second.cpu.usage_core_nano_seconds.value > first.cpu.usage_core_nano_seconds.value
    assert second_pod.linux.cpu.timestamp > first_pod.linux.cpu.timestamp


@pytest.mark.behaviour("STS-06")
@pytest.mark.differs_from_containerd("it has no swap on cgroup v1")
@pytest.mark.skipif(not HAS_SWAP_ACCOUNTING, reason="this kernel does not account for swap")
def test_swap_is_told(busy: Container) -> None:
    stats = stats_of(busy)
    assert stats.HasField("swap")
    assert stats.swap.timestamp


@pytest.mark.behaviour("STS-01")
@pytest.mark.parametrize("state", ["created", "exited"])
def test_stats_of_what_does_not_run_are_refused(pod: Pod, state: str) -> None:
    container = pod.create("true") if state == "created" else pod.run("true")
    with refused():
        stats_of(container)


@pytest.mark.behaviour("STS-08", "STS-09", "STS-11", "IDM-11", "LCT-04")
def test_list_of_stats_and_its_filters(cri: Cri, pod: Pod, busy: Container, new_pod: Callable[..., Pod]) -> None:
    elsewhere = new_pod().start()
    dead = pod.run("true")

    def ids(**conditions: object) -> set[str]:
        answer = cri("ListContainerStats", filter=pb.ContainerStatsFilter(**conditions))
        return {stats.attributes.id for stats in answer.stats}

    assert {busy.id, elsewhere.id} <= ids()
    assert {busy.id, elsewhere.id} <= {item.attributes.id for item in cri("ListContainerStats").stats}
    assert ids(id=busy.id[:13]) == {busy.id}
    assert ids(pod_sandbox_id=elsewhere.pod.id) == {elsewhere.id}
    assert busy.id in ids(pod_sandbox_id=pod.id[:13])
    assert busy.id in ids(label_selector={"a": "b"})
    assert elsewhere.id not in ids(label_selector={"a": "b"})
    for stats in cri("ListContainerStats").stats:
        assert stats.attributes.metadata.name
        if stats.attributes.id == dead.id:
            assert not stats.cpu.usage_core_nano_seconds.value


@pytest.mark.behaviour("STS-12")
def test_list_of_stats_is_quick(cri: Cri, busy: Container) -> None:
    started = time.monotonic()
    for _ in range(5):
        cri("ListContainerStats")
    assert (time.monotonic() - started) / 5 < 1.0


@pytest.mark.behaviour("PST-02", "PST-03", "PST-01")
def test_pod_stats_are_complete(cri: Cri, pod: Pod, busy: Container) -> None:
    stats = cri("PodSandboxStats", pod_sandbox_id=pod.id).stats
    assert stats.attributes.id == pod.id
    assert stats.attributes.metadata == pod.config.metadata
    assert dict(stats.attributes.labels) == dict(pod.config.labels)
    assert stats.linux.cpu.timestamp
    assert stats.linux.memory.timestamp
    assert stats.linux.network.default_interface.name == "eth0"
    assert stats.linux.process.process_count.value >= 2
    assert busy.id in {item.attributes.id for item in stats.linux.containers}


@pytest.mark.behaviour("PST-03")
@pytest.mark.differs_from_containerd("it leaves the time out")
def test_network_stats_of_a_pod_have_a_time(cri: Cri, pod: Pod) -> None:
    network = cri("PodSandboxStats", pod_sandbox_id=pod.id).stats.linux.network
    assert network.timestamp
    assert "eth0" in {network.default_interface.name, *(interface.name for interface in network.interfaces)}


@pytest.mark.behaviour("PST-03")
def test_network_counters_move_with_traffic(cri: Cri, new_pod: Callable[..., Pod], network: object) -> None:
    pod = new_pod()
    container = pod.start()

    def sent() -> int:
        interface = cri("PodSandboxStats", pod_sandbox_id=pod.id).stats.linux.network.default_interface
        return int(interface.tx_bytes.value)

    before = sent()
    container.exec("sh", "-c", "head -c 100000 /dev/zero | nc -w 1 $(ip route | awk '/default/ {print $3}') 9; true")
    container.exec("ping", "-c", "3", "-i", "0.1", "-s", "1000", pod.ip().rsplit(".", 1)[0] + ".1")
    eventually(sent, lambda value: value > before + 2000, "more bytes sent", 15)


@pytest.mark.behaviour("PST-03", "PST-02")
def test_pod_stats_in_the_hosts_network(cri: Cri, host_pod: Pod) -> None:
    stats = cri("PodSandboxStats", pod_sandbox_id=host_pod.id).stats
    assert stats.attributes.id == host_pod.id
    assert not stats.linux.network.default_interface.name


@pytest.mark.behaviour("PST-04", "PST-05", "IDM-08", "STS-11")
def test_list_of_pod_stats_and_its_filters(cri: Cri, pod: Pod, new_pod: Callable[..., Pod]) -> None:
    dead = new_pod(labels={"x": "y"})
    alive = new_pod(labels={"x": "y"})
    dead.stop()

    def ids(**conditions: object) -> set[str]:
        answer = cri("ListPodSandboxStats", filter=pb.PodSandboxStatsFilter(**conditions))
        return {stats.attributes.id for stats in answer.stats}

    assert {pod.id, alive.id} <= ids()
    assert dead.id not in ids()
    assert ids(id=pod.id[:13]) == {pod.id}
    assert ids(label_selector={"x": "y"}) == {alive.id}
    with pytest.raises(grpc.RpcError):
        cri("PodSandboxStats", pod_sandbox_id=dead.id)


# Metrics

REQUIRED = [
    "cpu_cfs_periods_total",
    "cpu_cfs_throttled_periods_total",
    "cpu_cfs_throttled_seconds_total",
    "cpu_system_seconds_total",
    "cpu_usage_seconds_total",
    "cpu_user_seconds_total",
    "memory_cache",
    "memory_failcnt",
    "memory_failures_total",
    "memory_kernel_usage",
    "memory_mapped_file",
    "memory_max_usage_bytes",
    "memory_rss",
    "memory_swap",
    "memory_usage_bytes",
    "memory_working_set_bytes",
    "oom_events_total",
    "fs_inodes_free",
    "fs_inodes_total",
    "fs_limit_bytes",
    "fs_usage_bytes",
    "network_receive_bytes_total",
    "network_receive_errors_total",
    "network_receive_packets_dropped_total",
    "network_receive_packets_total",
    "network_transmit_bytes_total",
    "network_transmit_errors_total",
    "network_transmit_packets_dropped_total",
    "network_transmit_packets_total",
    "file_descriptors",
    "processes",
    "sockets",
    "threads",
    "threads_max",
    "last_seen",
    "start_time_seconds",
    "spec_cpu_period",
    "spec_cpu_shares",
    "spec_memory_limit_bytes",
    "spec_memory_swap_limit_bytes",
]
DECLARED = [
    "fs_reads_bytes_total",
    "fs_reads_total",
    "fs_writes_bytes_total",
    "fs_writes_total",
    "blkio_device_usage_total",
]
MAY_BE_MISSING = [
    "hugetlb_max_usage_bytes",
    "hugetlb_usage_bytes",
    "ulimits_soft",
    "pressure_cpu_stalled_seconds_total",
    "pressure_cpu_waiting_seconds_total",
    "pressure_io_stalled_seconds_total",
    "pressure_io_waiting_seconds_total",
    "pressure_memory_stalled_seconds_total",
    "pressure_memory_waiting_seconds_total",
    "spec_cpu_quota",
    "spec_memory_reservation_limit_bytes",
]


@pytest.fixture(scope="module")
def descriptors(cri: Cri) -> dict[str, pb.MetricDescriptor]:
    """The metric descriptors by name."""
    try:
        return {item.name: item for item in cri("ListMetricDescriptors").descriptors}
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
        pytest.skip("this node has no metrics")


@pytest.fixture(scope="module")
def pod_metrics(cri: Cri, pod: Pod, busy: Container, descriptors: object) -> pb.PodSandboxMetrics:
    """The metrics of the shared pod when it has run for a while."""

    def read() -> pb.PodSandboxMetrics | None:
        found = [item for item in cri("ListPodSandboxMetrics").pod_metrics if item.pod_sandbox_id == pod.id]
        return found[0] if found and found[0].container_metrics else None

    return eventually(read, lambda metrics: metrics is not None, "metrics of the pod")


@pytest.mark.behaviour("MET-01", "MET-05", "MET-07")
@pytest.mark.differs_from_containerd("2.1 declares only a part")
def test_descriptors_are_declared(cri: Cri, descriptors: dict[str, pb.MetricDescriptor]) -> None:
    assert not {f"container_{name}" for name in REQUIRED + DECLARED} - set(descriptors)
    for descriptor in descriptors.values():
        assert descriptor.help
        assert descriptor.label_keys
        assert len(set(descriptor.label_keys)) == len(descriptor.label_keys)
    assert {item.name: item for item in cri("ListMetricDescriptors").descriptors} == descriptors


@pytest.mark.behaviour("MET-02", "MET-05", "MET-08")
@pytest.mark.differs_from_containerd("2.1 has only a part")
def test_every_required_metric_is_sampled(
    descriptors: dict[str, pb.MetricDescriptor], pod_metrics: pb.PodSandboxMetrics, busy: Container
) -> None:
    (mine,) = [item for item in pod_metrics.container_metrics if item.container_id == busy.id]
    sampled = {metric.name for metric in [*mine.metrics, *pod_metrics.metrics]}
    assert not {f"container_{name}" for name in REQUIRED} - sampled
    optional = {f"container_{name}" for name in DECLARED + MAY_BE_MISSING}
    assert not set(descriptors) - sampled - optional


@pytest.mark.behaviour("MET-03", "MET-04", "MET-06")
@pytest.mark.differs_from_containerd("2.1 has empty labels for what belongs to the pod")
def test_samples_fit_their_descriptors(
    descriptors: dict[str, pb.MetricDescriptor], pod_metrics: pb.PodSandboxMetrics, busy: Container
) -> None:
    samples = [*pod_metrics.metrics, *(metric for item in pod_metrics.container_metrics for metric in item.metrics)]
    assert samples
    for metric in samples:
        assert metric.name in descriptors
        assert len(metric.label_values) == len(descriptors[metric.name].label_keys)
        assert metric.HasField("value"), metric.name
    (mine,) = [item for item in pod_metrics.container_metrics if item.container_id == busy.id]
    for metric in mine.metrics:
        labels = dict(zip(descriptors[metric.name].label_keys, metric.label_values, strict=True))
        assert labels["container"] == busy.config.metadata.name
        assert busy.id in labels["id"] or busy.id in labels.get("name", "")


@pytest.mark.behaviour("MET-02", "MET-04")
@pytest.mark.differs_from_containerd("2.1 has only a part")
def test_values_are_those_of_the_container(pod_metrics: pb.PodSandboxMetrics, busy: Container) -> None:
    (mine,) = [item for item in pod_metrics.container_metrics if item.container_id == busy.id]
    values = {metric.name: metric.value.value for metric in mine.metrics}
    assert values["container_spec_memory_limit_bytes"] == 64 * MIB
    assert values["container_spec_cpu_shares"] == 512
    assert values["container_spec_cpu_period"] == 100_000
    assert 0 < values["container_memory_usage_bytes"] <= 64 * MIB
    assert values["container_processes"] >= 1
    assert abs(values["container_start_time_seconds"] - busy.status().started_at // 10**9) <= 2


@pytest.mark.behaviour("MET-02")
def test_stopped_pod_has_no_metrics(cri: Cri, new_pod: Callable[..., Pod], descriptors: object) -> None:
    pod = new_pod()
    pod.stop()
    assert pod.id not in {item.pod_sandbox_id for item in cri("ListPodSandboxMetrics").pod_metrics}
