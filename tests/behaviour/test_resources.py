"""Limits of containers, their update, and the OOM killer."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, eventually, host_pids, refused

MIB = 1024 * 1024
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
# The same limit in the files of both versions: v1 controller/file, v2 file.
FILES = {
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "swap": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "quota": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "period": ("cpu/cpu.cfs_period_us", "cpu.max"),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
    "cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
}


def limited(**resources: object) -> pb.LinuxContainerConfig:
    """Return the Linux part of a container's config with these limits."""
    return pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(**resources))


def cgroup_value(container: Container, limit: str) -> str:
    """Return what the kernel says of a limit of a running container."""
    v1, v2 = FILES[limit]
    lines = Path(f"/proc/{host_pids(container.id)[0]}/cgroup").read_text().splitlines()
    if V2:
        (path,) = [line.split(":", 2)[2] for line in lines if line.startswith("0::")]
        return Path(f"/sys/fs/cgroup{path}/{v2}").read_text().strip()
    controller, file = v1.split("/")
    (path,) = [line.split(":", 2)[2] for line in lines if controller in line.split(":")[1].split(",")]
    return Path(f"/sys/fs/cgroup/{controller}{path}/{file}").read_text().strip()


def shares_as_weight(shares: int) -> str:
    """Return how the kernel shows CPU shares."""
    return str(1 + (shares - 2) * 9999 // 262142) if V2 else str(shares)


@pytest.mark.behaviour("RES-02", "RES-04", "UCR-04", "CST-13")
def test_limits_are_in_the_cgroup_and_the_status(pod: Pod) -> None:
    container = pod.start(
        linux=limited(
            cpu_period=100_000,
            cpu_quota=50_000,
            cpu_shares=512,
            memory_limit_in_bytes=64 * MIB,
            memory_swap_limit_in_bytes=64 * MIB,
            cpuset_cpus="0",
            cpuset_mems="0",
        )
    )
    assert cgroup_value(container, "memory") == str(64 * MIB)
    assert cgroup_value(container, "shares") == shares_as_weight(512)
    assert cgroup_value(container, "quota").split()[0] == "50000"
    assert cgroup_value(container, "cpus") == "0"
    shown = container.status().resources.linux
    assert (shown.cpu_period, shown.cpu_quota, shown.cpu_shares) == (100_000, 50_000, 512)
    assert shown.memory_limit_in_bytes == 64 * MIB


@pytest.mark.behaviour("RES-04", "UCR-04")
def test_memory_limit_alone_allows_no_swap(pod: Pod) -> None:
    container = pod.start(linux=limited(memory_limit_in_bytes=64 * MIB))
    with contextlib.suppress(FileNotFoundError):
        assert cgroup_value(container, "swap") == ("0" if V2 else str(64 * MIB))


@pytest.mark.behaviour("RES-01", "CST-13")
def test_zero_means_not_set(pod: Pod) -> None:
    container = pod.start(linux=limited(cpu_quota=0, cpu_shares=0, memory_limit_in_bytes=0, cpuset_cpus=""))
    assert cgroup_value(container, "memory") in ("max", str(2**63 - 4096), str(9223372036854771712))
    assert cgroup_value(container, "quota").split()[0] in ("max", "-1")
    assert container.status().HasField("resources")


@pytest.mark.behaviour("RES-06")
def test_hugepage_limits_of_kubelet_are_tolerated(pod: Pod) -> None:
    limits = [pb.HugepageLimit(page_size="2MB", limit=0), pb.HugepageLimit(page_size="1GB", limit=0)]
    assert pod.start(linux=limited(hugepage_limits=limits)).sh("echo ran") == "ran"


@pytest.mark.behaviour("RES-07")
@pytest.mark.parametrize("score", [0, 3, 999, 1000])
def test_oom_score_is_set_on_the_process(pod: Pod, score: int) -> None:
    container = pod.start(linux=limited(oom_score_adj=score))
    assert Path(f"/proc/{host_pids(container.id)[0]}/oom_score_adj").read_text().strip() == str(score)


@pytest.mark.behaviour("RES-05")
@pytest.mark.skipif(not V2, reason="unified keys are of cgroup v2; this host has v1")
def test_unified_keys(pod: Pod) -> None:
    container = pod.start(linux=limited(memory_limit_in_bytes=64 * MIB, unified={"memory.oom.group": "1"}))
    path = Path(f"/proc/{host_pids(container.id)[0]}/cgroup").read_text().split("::")[1].strip()
    assert Path(f"/sys/fs/cgroup{path}/memory.oom.group").read_text().strip() == "1"
    with refused():
        pod.start(linux=limited(unified={"memory.nonsense": "1"}))


@pytest.mark.behaviour("UCR-01", "UCR-06", "UCR-05", "CST-13")
def test_update_changes_what_is_given_and_nothing_else(cri: Cri, pod: Pod) -> None:
    container = pod.start(
        linux=limited(cpu_period=100_000, cpu_quota=50_000, cpu_shares=512, memory_limit_in_bytes=64 * MIB)
    )
    cri("UpdateContainerResources", container_id=container.id, linux=pb.LinuxContainerResources(cpuset_cpus="0"))
    assert cgroup_value(container, "cpus") == "0"
    assert cgroup_value(container, "memory") == str(64 * MIB)
    assert cgroup_value(container, "quota").split()[0] == "50000"
    cri(
        "UpdateContainerResources",
        container_id=container.id,
        linux=pb.LinuxContainerResources(cpu_quota=70_000, cpu_period=100_000, cpu_shares=256, oom_score_adj=5),
        annotations={"for": "plug-ins"},
    )
    assert cgroup_value(container, "quota").split()[0] == "70000"
    assert cgroup_value(container, "shares") == shares_as_weight(256)
    assert cgroup_value(container, "memory") == str(64 * MIB)
    assert cgroup_value(container, "cpus") == "0"
    shown = container.status().resources.linux
    assert (shown.cpu_quota, shown.cpu_shares, shown.memory_limit_in_bytes) == (70_000, 256, 64 * MIB)
    assert shown.cpuset_cpus == "0"


@pytest.mark.behaviour("UCR-01", "UCR-04", "UCR-06")
@pytest.mark.parametrize("limit", [48 * MIB, 96 * MIB])
def test_memory_limit_can_go_both_ways(cri: Cri, pod: Pod, limit: int) -> None:
    container = pod.start(linux=limited(memory_limit_in_bytes=64 * MIB))
    resources = pb.LinuxContainerResources(memory_limit_in_bytes=limit)
    cri("UpdateContainerResources", container_id=container.id, linux=resources)
    assert cgroup_value(container, "memory") == str(limit)
    assert container.status().resources.linux.memory_limit_in_bytes == limit


@pytest.mark.behaviour("UCR-02", "UCR-06")
def test_update_before_the_start_applies_at_the_start(cri: Cri, pod: Pod) -> None:
    container = pod.create(linux=limited(memory_limit_in_bytes=64 * MIB))
    resources = pb.LinuxContainerResources(cpu_shares=300, cpuset_cpus="0")
    cri("UpdateContainerResources", container_id=container.id, linux=resources)
    assert container.status().resources.linux.cpu_shares == 300
    container.start()
    assert cgroup_value(container, "shares") == shares_as_weight(300)
    assert cgroup_value(container, "cpus") == "0"
    assert cgroup_value(container, "memory") == str(64 * MIB)


@pytest.mark.behaviour("UCR-02")
def test_update_after_the_end_is_ok(cri: Cri, pod: Pod) -> None:
    container = pod.run("true")
    cri("UpdateContainerResources", container_id=container.id, linux=pb.LinuxContainerResources(cpu_shares=300))
    assert container.status().state == pb.CONTAINER_EXITED


@pytest.mark.behaviour("UCR-03")
def test_update_is_all_or_nothing(cri: Cri, pod: Pod) -> None:
    container = pod.start(linux=limited(cpu_shares=512, memory_limit_in_bytes=64 * MIB))
    with refused():
        cri(
            "UpdateContainerResources",
            container_id=container.id,
            linux=pb.LinuxContainerResources(cpu_shares=256, cpuset_cpus="900-901"),
        )
    assert cgroup_value(container, "memory") == str(64 * MIB)
    shown = container.status().resources.linux
    assert (shown.cpu_shares, shown.memory_limit_in_bytes, shown.cpuset_cpus) == (512, 64 * MIB, "")


@pytest.mark.behaviour("UCR-03", "GEN-16")
def test_update_without_resources_changes_nothing(cri: Cri, pod: Pod) -> None:
    container = pod.start(linux=limited(cpu_shares=512))
    with contextlib.suppress(Exception):
        cri("UpdateContainerResources", container_id=container.id)
    assert cgroup_value(container, "shares") == shares_as_weight(512)


HUNGRY = ["dd", "if=/dev/zero", "of=/dev/null", "bs=60M", "count=1"]


@pytest.mark.behaviour("CST-07", "CST-06")
@pytest.mark.differs_from_containerd("on cgroup v1 it may hear of the kill after the end")
def test_oom_kill_is_named_every_time(pod: Pod) -> None:
    tight = limited(memory_limit_in_bytes=15 * MIB, memory_swap_limit_in_bytes=15 * MIB)
    for _ in range(3):
        containers = [pod.create(*HUNGRY, linux=tight) for _ in range(4)]
        for container in containers:
            container.start()
        for container in containers:
            status = container.wait()
            assert (status.exit_code, status.reason) == (137, "OOMKilled")


@pytest.mark.behaviour("CST-07")
def test_oom_of_a_child_is_not_the_end(pod: Pod) -> None:
    if V2:
        pytest.skip("cgroup v2 may kill the group")
    tight = limited(memory_limit_in_bytes=15 * MIB, memory_swap_limit_in_bytes=15 * MIB)
    script = f"{' '.join(HUNGRY)}; echo survived with $?; sleep 1000"
    container = pod.start("sh", "-c", script, linux=tight)
    assert eventually(container.output, bool, "the end of the child") == "survived with 137"
    assert container.status().state == pb.CONTAINER_RUNNING


@pytest.mark.behaviour("CST-06", "CST-07")
def test_plain_kill_is_not_called_oom(pod: Pod) -> None:
    container = pod.start(linux=limited(memory_limit_in_bytes=32 * MIB))
    container.stop()
    assert (container.status().exit_code, container.status().reason) == (137, "Error")
