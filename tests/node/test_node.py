"""The life of a node, in order: install, pods on both engines, restart, upgrade, reboot, migrate, remove, purge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from tests import images
from tests.kubelet import AppContainer, AppPod, Kubelet
from tests.node.machine import DELIVERED
from tests.node.node import CALL_WITHIN_S, Node

pytestmark = pytest.mark.timeout(900)

SERVICE = "cri-dockerd-py.service"
SLEEP = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"
# In bursts of long lines: something is always on its way, a pipe that nobody reads is soon full, and there are no more
# lines than an emulated machine can pass on beside the start of the service.
COUNT = f"i=0; while :; do echo line $i {'-' * 90}; i=$((i+1)); [ $((i % 100)) != 0 ] || sleep 0.5; done"
MEMORY_BYTES = 64 << 20


def test_the_package_is_installed_and_serves(node: Node) -> None:
    assert node.sh("stat -fc %T /sys/fs/cgroup") == "cgroup2fs"
    node.sh(f"dpkg --force-depends -i {DELIVERED}/service.deb", 300)
    node.wait_ready()
    assert node.property(SERVICE, "ActiveState") == "active"
    assert "Serving" in node.property(SERVICE, "StatusText")
    assert node.sh("stat -c %a /run/cri-dockerd-py.sock") == "660"
    assert node.sh("stat -c %a /run/cri-dockerd-py /var/lib/cri-dockerd-py").split() == ["700", "700"]
    assert node.sh("cri-dockerd-py version").startswith("cri-dockerd-py ")


def test_a_call_starts_the_service(node: Node) -> None:
    node.sh(f"systemctl stop {SERVICE}")
    assert node.property(SERVICE, "ActiveState") == "inactive"
    # A client gives a connection up after 20 s, in which an emulated machine does not start much.
    version = node.runtime.Version(cri.VersionRequest(), timeout=CALL_WITHIN_S, wait_for_ready=True)
    assert version.runtime_api_version == "v1"
    assert node.property(SERVICE, "ActiveState") == "active"
    main_pid = node.property(SERVICE, "MainPID")
    node.sh(f"systemctl reload {SERVICE}")
    assert node.property(SERVICE, "MainPID") == main_pid


def test_the_cgroup_driver_is_systemd(node: Node) -> None:
    config = node.runtime.RuntimeConfig(cri.RuntimeConfigRequest(), timeout=CALL_WITHIN_S)
    assert config.linux.cgroup_driver == cri.SYSTEMD


def run_limited(node: Node, slice_name: str) -> tuple[str, str]:
    """Run a pod with one container that has limits; return both ids."""
    pod = node.pod_config(slice_name=slice_name)
    pod_id = node.run_pod(pod)
    resources = cri.LinuxContainerResources(memory_limit_in_bytes=MEMORY_BYTES, cpu_period=100000, cpu_quota=50000)
    return pod_id, node.start_container(pod_id, pod, f"echo started; {SLEEP}", resources=resources)


def check_limited(node: Node, slice_name: str, pod_id: str, container_id: str) -> None:
    """See the limits where the kernel has them, and what statistics, exec and the log say."""
    group = node.sh(f"cut -d: -f3 /proc/{node.pid(container_id)}/cgroup")
    assert group.startswith(f"/kubepods.slice/{slice_name}/")
    assert node.sh(f"cat /sys/fs/cgroup{group}/memory.max") == str(MEMORY_BYTES)
    assert node.sh(f"cat /sys/fs/cgroup{group}/cpu.max") == "50000 100000"
    assert node.exec(container_id, "echo $((6 * 7))") == "42"
    assert node.log(container_id) == ["started"]

    def measured() -> bool:
        request = cri.ContainerStatsRequest(container_id=container_id)
        stats = node.runtime.ContainerStats(request, timeout=CALL_WITHIN_S).stats
        return bool(0 < stats.memory.working_set_bytes.value < MEMORY_BYTES and stats.cpu.usage_core_nano_seconds.value)

    node.wait(measured, "statistics of the container")
    request = cri.PodSandboxStatsRequest(pod_sandbox_id=pod_id)
    pod = node.runtime.PodSandboxStats(request, timeout=CALL_WITHIN_S).stats
    assert pod.linux.memory.working_set_bytes.value > 0
    assert pod.linux.process.process_count.value >= 2


def test_a_pod_on_docker_lives_in_its_slice(node: Node) -> None:
    slice_name = "kubepods-pod1.slice"
    pod_id, container_id = run_limited(node, slice_name)
    check_limited(node, slice_name, pod_id, container_id)
    assert container_id in node.sh("docker ps -q --no-trunc")
    node.remove_pod(pod_id)


def count_over(node: Node, *interruptions: Callable[[], object]) -> None:
    """Run a container that counts, interrupt the service, and see that its log has every line once."""
    pod = node.pod_config()
    pod_id = node.run_pod(pod)
    container_id = node.start_container(pod_id, pod, COUNT)
    for interrupt in interruptions:
        before = node.log_lines(container_id)
        node.wait(lambda before=before: node.log_lines(container_id) > before + 100, "lines of the log")
        interrupt()
        node.wait_ready()
    before = node.log_lines(container_id)
    node.wait(lambda: node.log_lines(container_id) > before, "the log going on")
    stop = cri.StopContainerRequest(container_id=container_id, timeout=0)
    node.runtime.StopContainer(stop, timeout=CALL_WITHIN_S)
    path = node.container(container_id).log_path
    assert node.sh(f"""awk '$4 != "line" || $5 != NR - 1 {{print; exit}}' {path}""") == ""
    node.remove_pod(pod_id)


def test_no_line_is_lost_over_restarts(node: Node) -> None:
    restarts = ("systemctl restart", "systemctl kill -s KILL --kill-who=main")
    count_over(node, *(partial(node.sh, f"{restart} {SERVICE}") for restart in restarts))


def test_an_upgrade_keeps_pods_running(node: Node) -> None:
    pod = node.pod_config(name="kept")
    pod_id = node.run_pod(pod)
    container_id = node.start_container(pod_id, pod, SLEEP)
    pid = node.pid(container_id)
    main_pid = node.property(SERVICE, "MainPID")
    node.sh(f"dpkg --force-depends -i {DELIVERED}/newer.deb", 300)
    node.wait_ready()
    assert node.property(SERVICE, "MainPID") != main_pid
    assert node.pid(container_id) == pid
    assert node.exec(container_id, "echo here") == "here"


def test_a_reboot_leaves_nothing_behind(node: Node) -> None:
    """The pod of the test before is gone with the machine; kubelet removes it and makes it anew."""
    (old_id,) = node.pods()
    node.reboot()
    node.wait_ready()
    assert node.pods() == {old_id: cri.SANDBOX_NOTREADY}
    node.remove_pod(old_id)
    assert node.sh("ls /run/netns 2>/dev/null || true") == ""
    assert node.sh("ls /var/lib/cni/networks/node | grep -c '^10[.]' || true") == "0"
    pod = node.pod_config(name="kept")
    pod_id = node.run_pod(pod)
    container_id = node.start_container(pod_id, pod, SLEEP)
    assert node.exec(container_id, "echo again") == "again"
    node.remove_pod(pod_id)


def test_pods_move_to_containerd(node: Node, tmp_path: Path) -> None:
    """Kubelet's stand-in makes the pods; it is told nothing of the move."""
    web = AppContainer("web", images.BUSYBOX, ("/bin/sh", "-c", SLEEP))
    pods = [AppPod(f"web-{number}", (web,)) for number in range(2)]
    with Kubelet(node.machine.cri_address, tmp_path, relist_s=2.0) as kubelet:
        kubelet.add(*pods)
        node.wait(lambda: all(kubelet.is_running(pod) for pod in pods), "pods on Docker")
        assert len(node.sh("docker ps -q").split()) == 4
        node.sh("cri-dockerd-py migrate run --to containerd --settle 2", within_s=600)
        assert all(kubelet.is_running(pod) for pod in pods)
        assert node.sh("docker ps -q") == ""
        assert len(node.sh("ctr -n k8s.io tasks ls -q").split()) == 4
        for pod in pods:
            kubelet.delete(pod)
        node.wait(lambda: node.pods() == {}, "the end of the pods")


def test_a_pod_on_containerd_lives_in_its_slice(node: Node) -> None:
    """New pods go to the engine that the node has moved to."""
    slice_name = "kubepods-pod2.slice"
    pod_id, container_id = run_limited(node, slice_name)
    check_limited(node, slice_name, pod_id, container_id)
    assert container_id in node.sh("ctr -n k8s.io tasks ls -q")
    node.remove_pod(pod_id)


def test_a_checkpoint_is_an_archive(node: Node) -> None:
    """CRIU has to run on the kernel that it meets: the node's does."""
    pod = node.pod_config()
    pod_id = node.run_pod(pod)
    container_id = node.start_container(pod_id, pod, f"echo changed > /changed; {SLEEP}")
    node.sh("mkdir -p -m 0700 /srv/checkpoints")
    location = "/srv/checkpoints/one.tar"
    request = cri.CheckpointContainerRequest(container_id=container_id, location=location)
    node.runtime.CheckpointContainer(request, timeout=CALL_WITHIN_S)
    assert node.sh("ls -A /srv/checkpoints") == "one.tar"
    assert node.sh(f"stat -c %a {location}") == "600"
    names = node.sh(f"tar -tf {location}").split()
    assert {"checkpoint/inventory.img", "config.dump", "spec.dump", "status.dump", "container.log"} <= set(names)
    assert "changed" in node.sh(f"tar -xOf {location} rootfs-diff.tar | tar -t").split()
    assert node.exec(container_id, "echo goes on") == "goes on"
    node.remove_pod(pod_id)


def test_an_installation_after_a_removal_serves(node: Node) -> None:
    """And the pods on containerd, which went on meanwhile, have lost nothing of their logs."""

    def install_again() -> None:
        node.sh("dpkg --remove cri-dockerd-py", 300)
        assert node.property(SERVICE, "ActiveState") == "inactive"
        node.sh(f"dpkg --force-depends -i {DELIVERED}/newer.deb", 300)

    count_over(node, install_again)
    assert node.property(SERVICE, "ActiveState") == "active"
    assert node.property(SERVICE, "UnitFileState") == "enabled"


def test_purging_leaves_nothing(node: Node) -> None:
    node.sh("dpkg --purge cri-dockerd-py", 300)
    assert node.sh("systemctl list-unit-files 'cri-dockerd-py*' --no-legend || true") == ""
    left = node.sh(
        "ls -d /etc/cri-dockerd-py /var/lib/cri-dockerd-py /run/cri-dockerd-py* /usr/lib/cri-dockerd-py "
        "/usr/bin/cri-dockerd-py 2>/dev/null || true"
    )
    assert left == ""
    assert node.sh("docker ps -aq") == ""
    assert node.sh("ctr -n k8s.io containers ls -q") == ""
