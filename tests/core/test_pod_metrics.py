"""Pod metrics: every required name is declared and sampled, with real figures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.base import CgroupReader
from cri_dockerd_py.cgroups.detect import reader_for
from cri_dockerd_py.cgroups.v1 import CgroupV1
from cri_dockerd_py.cgroups.v2 import CgroupV2
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.stats import Stats
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxState
from cri_dockerd_py.model.stats import Metric, MetricType, PodSandboxMetrics
from tests.cgroups.host import layout_or_none
from tests.cgroups.sample_files import CONTAINER_ID, lay_out, lay_out_process, lay_out_v1, lay_out_v2
from tests.core import stats_records
from tests.core.running_pods import RunningPods

LAYOUT = layout_or_none()
REQUIRED_TEXT = """
cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total cpu_system_seconds_total
cpu_usage_seconds_total cpu_user_seconds_total memory_cache memory_failcnt memory_failures_total
memory_kernel_usage memory_mapped_file memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes
memory_working_set_bytes oom_events_total fs_inodes_free fs_inodes_total fs_limit_bytes fs_usage_bytes
network_receive_bytes_total network_receive_errors_total network_receive_packets_dropped_total
network_receive_packets_total network_transmit_bytes_total network_transmit_errors_total
network_transmit_packets_dropped_total network_transmit_packets_total file_descriptors processes sockets
threads threads_max last_seen start_time_seconds spec_cpu_period spec_cpu_shares spec_memory_limit_bytes
spec_memory_swap_limit_bytes
"""
REQUIRED = REQUIRED_TEXT.split()
#: Declared, but without a sample where the kernel or the container has nothing to tell.
OPTIONAL_TEXT = """
fs_reads_bytes_total fs_reads_total fs_writes_bytes_total fs_writes_total blkio_device_usage_total
hugetlb_max_usage_bytes hugetlb_usage_bytes ulimits_soft spec_cpu_quota pressure_cpu_stalled_seconds_total
pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total
pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total
"""
OPTIONAL = OPTIONAL_TEXT.split()
NET_DEV = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier\n"
    "    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n"
    "  eth0: 1001 1002 1003 1004 0 0 0 0 2001 2002 2003 2004 0 0 0 0\n"
)
LIMITS = Resources(
    cpu_period_us=100_000,
    cpu_quota_us=20_000,
    cpu_shares=1024,
    memory_limit_bytes=64 << 20,
    memory_swap_limit_bytes=64 << 20,
)


@dataclass
class Served:
    """Metrics of one pod with one container, from sample files."""

    stats: Stats
    pods: Sequence[PodSandboxMetrics]

    @property
    def container(self) -> dict[str, list[Metric]]:
        """The container's samples by name, without the prefix."""
        return by_name(self.pods[0].containers[0].metrics)

    @property
    def pod(self) -> dict[str, list[Metric]]:
        """The pod's own samples by name, without the prefix."""
        return by_name(self.pods[0].metrics)


def by_name(metrics: Sequence[Metric]) -> dict[str, list[Metric]]:
    """Group samples."""
    found: dict[str, list[Metric]] = {}
    for metric in metrics:
        found.setdefault(metric.name.removeprefix("container_"), []).append(metric)
    return found


def value(metrics: dict[str, list[Metric]], name: str, *labels: str) -> int:
    """Return the one sample's value whose labels end so."""
    [found] = [one.value for one in metrics[name] if one.label_values[len(one.label_values) - len(labels) :] == labels]
    return found


def v1_reader(root: Path) -> CgroupReader:
    """Lay out v1 files for process 42."""
    lay_out_v1(root)
    path = f"/pods/pod1/{CONTAINER_ID}"
    names = ("cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb")
    lay_out_process(root / "proc", 42, "".join(f"{number}:{name}:{path}\n" for number, name in enumerate(names, 1)))
    return CgroupV1({name: str(root / name) for name in names}, str(root / "proc"))


def v2_reader(root: Path) -> CgroupReader:
    """Lay out v2 files for process 42."""
    lay_out_v2(root)
    lay_out_process(root / "proc", 42, f"0::/pods/pod1/{CONTAINER_ID}\n")
    return CgroupV2(str(root), str(root / "proc"))


@pytest.fixture(params=[v1_reader, v2_reader])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """Metrics made of the sample files of either version."""
    reader: CgroupReader = request.param(tmp_path)
    limits = (
        "Limit Soft Limit Hard Limit Units\nMax open files            1024                 4096                 files\n"
    )
    lay_out(tmp_path / "proc/42", {"limits": limits, "net/dev": NET_DEV})
    (tmp_path / "layers").mkdir()
    inventory = Inventory()
    inventory.known = True
    sandbox = inventory.put_sandbox(stats_records.sandbox(pid=42))
    inventory.put_container(stats_records.container(sandbox.id, id=CONTAINER_ID, pid=42, resources=LIMITS))
    stats = Stats(inventory, reader, lambda _engine: str(tmp_path / "layers"), str(tmp_path / "proc"))
    yield Served(stats, await stats.sandbox_metrics())
    stats.close()


@pytest.mark.behaviour("MET-01")
async def test_descriptors(served: Served) -> None:
    """Each has a name of its own, a meaning and label keys, and they stay the same."""
    descriptors = served.stats.metric_descriptors()

    assert len({one.name for one in descriptors}) == len(descriptors)
    assert all(
        one.help and one.label_keys[:5] == ("pod", "namespace", "container", "id", "image") for one in descriptors
    )
    assert {f"container_{name}" for name in REQUIRED + OPTIONAL} <= {one.name for one in descriptors}
    assert served.stats.metric_descriptors() == descriptors


@pytest.mark.behaviour("MET-02", "MET-05")
async def test_everything_declared_is_sampled(served: Served) -> None:
    """What is declared has a sample, but for what the kernel may not tell; nothing undeclared has one."""
    sampled = served.container.keys() | served.pod.keys()
    declared = {one.name.removeprefix("container_") for one in served.stats.metric_descriptors()}

    assert set(REQUIRED) <= sampled
    assert sampled <= declared
    assert declared - sampled <= set(OPTIONAL)


@pytest.mark.behaviour("MET-03", "MET-04", "MET-06")
async def test_labels_and_values(served: Served) -> None:
    """Labels are as many as the keys, in their order; values are unsigned integers; the samples are live."""
    descriptors = {one.name: one for one in served.stats.metric_descriptors()}
    [pod] = served.pods

    for metric in (*pod.metrics, *pod.containers[0].metrics):
        descriptor = descriptors[metric.name]
        assert len(metric.label_values) == len(descriptor.label_keys) > 0
        assert metric.type is descriptor.type
        assert isinstance(metric.value, int)
        assert 0 <= metric.value < 2**64
        assert metric.timestamp_ns == 0
    base = ("web", "shop", "app", CONTAINER_ID, "example.test/app:1")
    assert all(metric.label_values[:5] == base for metric in pod.containers[0].metrics)
    assert all(all(metric.label_values) for metric in pod.containers[0].metrics)
    assert all(metric.label_values[:5] == ("web", "shop", "", pod.sandbox_id, "") for metric in pod.metrics)


async def test_labelled_groups(served: Served) -> None:
    """The keys that follow the base ones have their values."""
    metrics = served.container
    device = metrics["fs_limit_bytes"][0].label_values[5]

    assert {one.label_values[5:] for one in metrics["memory_failures_total"]} == {
        (kind, scope) for kind in ("pgfault", "pgmajfault") for scope in ("container", "hierarchy")
    }
    assert device.startswith("/") or device in ("tmpfs", "overlay")
    assert len(metrics["blkio_device_usage_total"]) == 2
    assert metrics["blkio_device_usage_total"][0].label_values[-1] == "Read"
    assert value(metrics, "hugetlb_usage_bytes", "2MB") > 0
    assert value(metrics, "ulimits_soft", "max_open_files") == 1024
    assert served.pod["network_receive_bytes_total"][0].label_values[5:] == ("eth0",)
    assert metrics["memory_failcnt"][0].type is MetricType.COUNTER
    assert metrics["memory_rss"][0].type is MetricType.GAUGE


async def test_network_columns(served: Served) -> None:
    """Each counter is the interface's own; the loopback is left out."""
    names = ("bytes", "packets", "errors", "packets_dropped")

    assert [value(served.pod, f"network_receive_{name}_total") for name in names] == [1001, 1002, 1003, 1004]
    assert [value(served.pod, f"network_transmit_{name}_total") for name in names] == [2001, 2002, 2003, 2004]


@pytest.mark.behaviour("MET-08")
async def test_limits(served: Served) -> None:
    """What the container was given is told."""
    metrics = served.container

    assert value(metrics, "spec_cpu_period") == 100_000
    assert value(metrics, "spec_cpu_quota") == 20_000
    assert value(metrics, "spec_cpu_shares") == 1024
    assert value(metrics, "spec_memory_swap_limit_bytes") == 64 << 20
    assert value(metrics, "spec_memory_limit_bytes") in (104857600, 134217728)
    assert value(metrics, "start_time_seconds") == 2
    assert abs(value(metrics, "last_seen") - time.time()) < 60


@pytest.fixture
def inventory() -> Inventory:
    """What is known of pods and containers."""
    made = Inventory()
    made.known = True
    return made


@pytest.fixture
def running(inventory: Inventory) -> Iterator[RunningPods]:
    """Makes pods of real processes."""
    if LAYOUT is None:
        pytest.skip("cgroups cannot be made here")
    made = RunningPods(LAYOUT, inventory)
    yield made
    made.close()


@pytest.fixture
async def stats(inventory: Inventory, running: RunningPods, tmp_path: Path) -> AsyncIterator[Stats]:
    """The verbs on this machine's kernel."""
    assert LAYOUT is not None
    made = Stats(inventory, reader_for(LAYOUT), lambda _engine: str(tmp_path))
    yield made
    made.close()


@pytest.mark.behaviour("MET-02")
async def test_only_what_runs(stats: Stats, running: RunningPods, inventory: Inventory) -> None:
    """Pods that are not ready and containers that do not run, or whose process is gone, are left out."""
    sandbox = running.sandbox()
    container = running.container(sandbox)
    inventory.put_container(stats_records.container(sandbox.id, state=ContainerState.EXITED))
    inventory.put_container(stats_records.container(sandbox.id, pid=2**22 + 1))
    inventory.put_sandbox(stats_records.sandbox(state=SandboxState.NOTREADY))

    [pod] = await stats.sandbox_metrics()

    assert pod.sandbox_id == sandbox.id
    assert [one.container_id for one in pod.containers] == [container.id]


async def test_figures_of_a_real_process(stats: Stats, running: RunningPods) -> None:
    """Processes, threads, descriptors, sockets and memory are what the process has."""
    code = (
        "import socket, threading\n"
        "keep = [socket.socket() for _ in range(3)], bytearray(b'x') * (16 << 20)\n"
        "[threading.Thread(target=threading.Event().wait, daemon=True).start() for _ in range(2)]\n"
        "print('ready', flush=True); input()"
    )
    running.container(running.sandbox(), code)

    [pod] = await stats.sandbox_metrics()
    metrics = by_name(pod.containers[0].metrics)

    assert value(metrics, "processes") == 1
    assert value(metrics, "threads") == 3
    assert value(metrics, "threads_max") == 0
    assert value(metrics, "sockets") == 3
    assert value(metrics, "file_descriptors") == 6
    assert value(metrics, "memory_rss") >= 16 << 20
    assert value(metrics, "memory_failures_total", "pgfault", "container") > 0
    assert value(metrics, "fs_limit_bytes") > 0
    assert value(metrics, "fs_inodes_free") >= 0


async def test_a_pod_on_the_hosts_network_has_no_network_samples(stats: Stats, running: RunningPods) -> None:
    """They would be the node's."""
    running.sandbox(host_network=True)

    [pod] = await stats.sandbox_metrics()

    assert pod.metrics == ()
