"""RunPodSandbox, PodSandboxStatus, ListPodSandbox, StopPodSandbox, RemovePodSandbox, UpdatePodSandboxResources."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, Pod, eventually, host_pids, refused

READY = pb.PodSandboxStateValue(state=pb.SANDBOX_READY)
NOTREADY = pb.PodSandboxStateValue(state=pb.SANDBOX_NOTREADY)
LABELS = {"app": "web", "tier": "", "example.com/long": "x" * 63}
ANNOTATIONS = {
    "kubernetes.io/config.source": "api",
    "empty": "",
    "json": json.dumps({"a": ["ü", '"', "\\n"], "b": None}),
    "lines": "one\ntwo\tthree ",
    "example.com/large": "y" * 100_000,
}


@pytest.fixture(scope="module")
def labelled(cri: Cri) -> Iterator[Pod]:
    """A pod with labels and annotations of every kind."""
    pod = cri.run_pod(cri.pod_config(labels=LABELS, annotations=ANNOTATIONS))
    yield pod
    pod.remove()


@pytest.mark.behaviour("RUN-03", "RUN-04", "SBS-02", "SBS-03", "NET-10", "NET-11")
def test_pod_is_complete_when_run_returns(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    before = time.time_ns()
    pod = new_pod()
    status = pod.status()
    assert status.id == pod.id
    assert status.state == pb.SANDBOX_READY
    assert status.metadata == pod.config.metadata
    assert before <= status.created_at <= time.time_ns()
    assert status.network.ip
    assert status.linux.HasField("namespaces")


@pytest.mark.behaviour("RUN-08", "SBS-03", "LSB-01", "CRE-13", "GEN-04")
def test_labels_and_annotations_come_back_as_they_were(cri: Cri, labelled: Pod) -> None:
    (listed,) = cri.pods(id=labelled.id)
    for view in (labelled.status(), listed):
        assert dict(view.labels) == LABELS
        assert dict(view.annotations) == ANNOTATIONS


@pytest.mark.behaviour("LSB-01", "LSB-08")
def test_list_and_status_agree(cri: Cri, labelled: Pod) -> None:
    (listed,) = cri.pods(id=labelled.id)
    status = labelled.status()
    for name in ("id", "metadata", "state", "created_at", "labels", "annotations", "runtime_handler"):
        assert getattr(listed, name) == getattr(status, name), name


@pytest.mark.behaviour("RUN-08")
def test_metadata_may_hold_what_kubernetes_allows(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    name = "a-name.with.dots-" + "n" * 150
    pod = new_pod(name=name, metadata=pb.PodSandboxMetadata(name=name, uid="u" * 36, namespace="behaviour", attempt=7))
    assert pod.status().metadata == pod.config.metadata
    (listed,) = cri.pods(id=pod.id)
    assert listed.metadata == pod.config.metadata


@pytest.mark.behaviour("RUN-05", "STA-15")
def test_every_runtime_handler_runs_a_pod_and_is_echoed(cri: Cri, status: pb.StatusResponse) -> None:
    for handler in status.runtime_handlers:
        pod = cri.run_pod(runtime_handler=handler.name)
        try:
            assert pod.status().runtime_handler == handler.name
            (listed,) = cri.pods(id=pod.id)
            assert listed.runtime_handler == handler.name
            assert pod.run("sh", "-c", "echo ran").output() == "ran"
        finally:
            pod.remove()


@pytest.mark.behaviour("RUN-05", "RUN-06")
def test_unknown_runtime_handler_is_refused_before_anything_is_made(cri: Cri) -> None:
    config = cri.pod_config()
    with refused():
        cri.run_pod(config, runtime_handler="no-such-handler")
    assert config.metadata.uid not in {pod.metadata.uid for pod in cri.pods()}
    cri.run_pod(config).remove()


@pytest.mark.behaviour("RUN-10", "RUN-11", "LOG-08", "IMG-39")
def test_smallest_config_runs(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod(log_directory="", labels={}, linux=None)
    container = pod.start("sh", "-c", "echo to nobody; sleep 1000", log_path="")
    assert container.status().state == pb.CONTAINER_RUNNING
    assert container.status().log_path == ""


@pytest.mark.behaviour("RUN-10", "CRE-14")
def test_log_directory_is_made_when_it_is_missing(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod(log_directory=str(cri.log_root / "not" / "there" / "yet"))
    assert pod.run("echo", "hello", log_path="deep/er/0.log").output() == "hello"


@pytest.mark.behaviour("RUN-09")
def test_hostname_is_seen_in_the_pod(new_pod: Callable[..., Pod]) -> None:
    container = new_pod(hostname="a-host-name").start()
    assert container.sh("hostname") == "a-host-name"
    assert container.sh("cat /etc/hostname") == "a-host-name"
    assert container.sh("echo $HOSTNAME") == "a-host-name"


@pytest.mark.behaviour("RUN-09")
def test_host_network_pod_has_the_nodes_hostname(host_pod: Pod) -> None:
    assert host_pod.start().sh("hostname") == os.uname().nodename


@pytest.mark.behaviour("RUN-14")
def test_sysctls_are_set_in_the_pod(new_pod: Callable[..., Pod]) -> None:
    sysctls = {"kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "100", "net.ipv4.ip_local_port_range": "20000 21000"}
    container = new_pod(linux=pb.LinuxPodSandboxConfig(sysctls=sysctls)).start()
    for key, value in sysctls.items():
        path = "/proc/sys/" + key.replace(".", "/")
        assert container.sh(f"cat {path}").split() == value.split()


@pytest.mark.behaviour("RUN-14", "RUN-06")
@pytest.mark.parametrize("key", ["kernel.pid_max", "vm.swappiness", "not.a.sysctl"])
def test_sysctl_of_no_namespace_is_refused(cri: Cri, key: str) -> None:
    config = cri.pod_config(linux=pb.LinuxPodSandboxConfig(sysctls={key: "1"}))
    with refused():
        cri.run_pod(config)
    assert config.metadata.uid not in {pod.metadata.uid for pod in cri.pods()}


@pytest.mark.behaviour("RUN-14")
def test_sysctl_of_a_namespace_shared_with_the_host_is_refused(cri: Cri) -> None:
    options = pb.NamespaceOption(network=pb.NODE)
    linux = pb.LinuxPodSandboxConfig(
        sysctls={"net.ipv4.ip_forward": "1"},
        security_context=pb.LinuxSandboxSecurityContext(namespace_options=options),
    )
    with refused():
        cri.run_pod(cri.pod_config(linux=linux))


@pytest.mark.behaviour("RUN-15")
def test_low_ports_and_ping_are_free_in_a_pod(pod: Pod) -> None:
    container = pod.start()
    assert container.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "0"
    assert container.sh("cat /proc/sys/net/ipv4/ping_group_range").split() == ["0", "2147483647"]


@pytest.mark.behaviour("RUN-16")
def test_overhead_and_resources_are_accepted(new_pod: Callable[..., Pod]) -> None:
    resources = pb.LinuxContainerResources(
        cpu_period=100000, cpu_quota=50000, cpu_shares=512, memory_limit_in_bytes=1 << 28
    )
    pod = new_pod(linux=pb.LinuxPodSandboxConfig(overhead=resources, resources=resources))
    assert pod.status().state == pb.SANDBOX_READY


@pytest.mark.behaviour("RUN-12", "RUN-13", "RES-03")
def test_pod_and_containers_live_under_the_cgroup_parent(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    if cri("RuntimeConfig").linux.cgroup_driver == pb.SYSTEMD:
        parent = expected = "/behaviour.slice"
    else:
        parent = expected = "/behaviour/pod-one"
    pod = new_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    container = pod.start()
    (pid,) = host_pids(container.id)[:1]
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line for line in file.read().splitlines() if container.id in line]
    assert lines
    for line in lines:
        path = line.split(":", 2)[2]
        assert f"{expected}/" in path
        leaf = path.rsplit("/", 1)[1]
        assert leaf.removesuffix(".scope").endswith(container.id)


@pytest.mark.behaviour("RUN-17", "LOD-36")
def test_pod_and_container_from_nothing_to_nothing_in_time(cri: Cri) -> None:
    started = time.monotonic()
    pod = cri.run_pod()
    container = pod.start()
    container.stop(10)
    container.remove()
    pod.remove()
    assert time.monotonic() - started < 5


@pytest.mark.behaviour("SBS-04", "SBS-06", "STP-01", "STP-02", "GEN-17", "RMC-05", "RMC-02", "NET-12")
def test_stopped_pod_stays_listed_with_its_containers(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    running, created = pod.start("sh", "-c", "echo hello; sleep 1000"), pod.create()
    pod.stop()
    assert pod.status().state == pb.SANDBOX_NOTREADY
    assert [item.id for item in cri.pods(id=pod.id, state=NOTREADY)] == [pod.id]
    assert not cri.pods(id=pod.id, state=READY)
    assert running.status().state == pb.CONTAINER_EXITED
    assert running.status().log_path == str(running.log_path)
    assert {item.id for item in cri.containers(pod_sandbox_id=pod.id)} == {running.id, created.id}
    with refused():
        created.start()
    assert created.status().state != pb.CONTAINER_RUNNING
    assert len(cri.containers(pod_sandbox_id=pod.id)) == 2
    running.remove()
    created.remove()
    assert not cri.containers(pod_sandbox_id=pod.id)
    assert running.log_path.exists()


@pytest.mark.behaviour("STP-05", "CRE-02")
@pytest.mark.differs_from_containerd("2.1 refuses only the start")
def test_no_container_is_created_in_a_stopped_pod(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    pod.stop()
    with refused():
        pod.create()
    assert not cri.containers(pod_sandbox_id=pod.id)


@pytest.mark.behaviour("SBS-05", "NET-13", "STP-04")
def test_pod_whose_process_dies_is_not_ready_and_can_be_stopped(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    for pid in host_pids(pod.id):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: pod.status().state, lambda state: state == pb.SANDBOX_NOTREADY, "NOTREADY", 10)
    pod.stop()
    assert pod.status().state == pb.SANDBOX_NOTREADY


@pytest.mark.behaviour("SBS-07", "LSB-01")
def test_verbose_status_of_a_pod_is_json(cri: Cri, pod: Pod) -> None:
    assert not cri("PodSandboxStatus", pod_sandbox_id=pod.id).info
    info = cri("PodSandboxStatus", pod_sandbox_id=pod.id, verbose=True).info
    assert info
    assert isinstance(json.loads(info["info"]), dict)


@pytest.mark.behaviour("SBS-08", "EVT-10")
def test_timestamp_comes_only_with_the_containers(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    container = pod.start()
    answer = cri("PodSandboxStatus", pod_sandbox_id=pod.id)
    if answer.timestamp:
        assert [item.id for item in answer.containers_statuses] == [container.id]
        again = cri("PodSandboxStatus", pod_sandbox_id=pod.id)
        assert again.timestamp >= answer.timestamp


@pytest.mark.behaviour("SBS-09")
def test_later_pod_has_a_later_time(cri: Cri) -> None:
    times = []
    for _ in range(3):
        pod = cri.run_pod()
        times.append(pod.status().created_at)
        pod.remove()
    assert times == sorted(set(times))


@pytest.mark.behaviour("LSB-02", "LSB-04", "LSB-05", "LSB-06")
def test_filters_of_the_list(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    mark = {"group": f"g{time.monotonic_ns()}"}
    ready = new_pod(labels={**mark, "kind": "a"})
    dead = new_pod(labels={**mark, "kind": "b"})
    dead.stop()

    def ids(**conditions: object) -> set[str]:
        return {pod.id for pod in cri.pods(**conditions)}

    assert {ready.id, dead.id} <= ids()
    assert {pod.id for pod in cri("ListPodSandbox").items} >= {ready.id, dead.id}
    assert ids(label_selector=mark) == {ready.id, dead.id}
    assert ids(label_selector={**mark, "kind": "a"}) == {ready.id}
    assert ids(label_selector={**mark, "kind": "c"}) == set()
    assert ids(label_selector=mark, state=READY) == {ready.id}
    assert ids(label_selector=mark, state=NOTREADY) == {dead.id}
    assert ids(label_selector=mark, id=dead.id, state=READY) == set()
    assert dead.id in ids(state=NOTREADY)
    assert dead.id not in ids(state=READY)


@pytest.mark.behaviour("LSB-10", "LCT-09", "STS-10", "IMG-24", "MET-09")
@pytest.mark.parametrize(
    ("streaming", "unary", "field"),
    [
        ("StreamPodSandboxes", "ListPodSandbox", "id"),
        ("StreamContainers", "ListContainers", "id"),
        ("StreamContainerStats", "ListContainerStats", "attributes.id"),
        ("StreamPodSandboxStats", "ListPodSandboxStats", "attributes.id"),
        ("StreamImages", "ListImages", "id"),
        ("StreamPodSandboxMetrics", "ListPodSandboxMetrics", "pod_sandbox_id"),
    ],
)
@pytest.mark.differs_from_containerd("the streaming lists are newer than 2.1")
def test_streaming_list_has_each_item_once(cri: Cri, pod: Pod, streaming: str, unary: str, field: str) -> None:
    pod.start()

    def ids(responses: list[object]) -> list[str]:
        found = []
        for response in responses:
            (items,) = [value for _, value in response.ListFields()]  # type: ignore[attr-defined]
            for item in items:
                for name in field.split("."):
                    item = getattr(item, name)
                found.append(item)
        return sorted(found)

    streamed = ids(list(cri.stream(streaming, deadline=20)))
    assert streamed == ids([cri(unary)])
    assert len(set(streamed)) == len(streamed)


@pytest.mark.behaviour("LSB-10", "LCT-09")
@pytest.mark.differs_from_containerd("the streaming lists are newer than 2.1")
def test_streaming_lists_take_the_same_filters(cri: Cri, pod: Pod) -> None:
    wanted = pod.create()
    pods = list(cri.stream("StreamPodSandboxes", deadline=20, filter=pb.PodSandboxFilter(id=pod.id)))
    assert [item.id for part in pods for item in part.pod_sandboxes] == [pod.id]
    containers = list(cri.stream("StreamContainers", deadline=20, filter=pb.ContainerFilter(id=wanted.id)))
    assert [item.id for part in containers for item in part.containers] == [wanted.id]


@pytest.mark.behaviour("STP-06", "STO-06", "STO-13")
def test_pod_stop_overrides_a_long_container_stop(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    stubborn = pod.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    eventually(stubborn.output, lambda text: text == "ready", "the trap")
    stopping = cri.begin("StopContainer", container_id=stubborn.id, timeout=60)
    threading.Event().wait(0.3)
    started = time.monotonic()
    pod.stop()
    assert time.monotonic() - started < 20
    assert stubborn.status().state == pb.CONTAINER_EXITED
    stopping.result(timeout=10)


@pytest.mark.behaviour("STP-07", "GEN-14")
def test_stop_whose_caller_has_gone_can_be_repeated(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    call = cri.begin("StopPodSandbox", pod_sandbox_id=pod.id)
    threading.Event().wait(0.02)
    call.cancel()
    pod.stop()
    assert pod.status().state == pb.SANDBOX_NOTREADY


@pytest.mark.behaviour("STP-03")
def test_stop_of_a_stopped_pod_is_cheap(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    pod.stop()
    started = time.monotonic()
    for _ in range(5):
        pod.stop()
    assert (time.monotonic() - started) / 5 < 0.25


@pytest.mark.behaviour("RMP-01", "RMP-02", "RMP-03")
def test_removal_takes_running_containers_along(cri: Cri) -> None:
    pod = cri.run_pod()
    containers = [pod.start(), pod.create(), pod.run("true")]
    cri("RemovePodSandbox", pod_sandbox_id=pod.id)
    assert not cri.pods(id=pod.id)
    with refused(grpc.StatusCode.NOT_FOUND):
        pod.status()
    for container in containers:
        assert not cri.containers(id=container.id)
        with refused(grpc.StatusCode.NOT_FOUND):
            container.status()
        assert not host_pids(container.id)


@pytest.mark.behaviour("UPS-01")
@pytest.mark.differs_from_containerd("the call is newer than 2.1")
def test_resize_of_a_pod_is_ok(cri: Cri, pod: Pod) -> None:
    resources = pb.LinuxContainerResources(cpu_shares=512, memory_limit_in_bytes=1 << 28)
    cri("UpdatePodSandboxResources", pod_sandbox_id=pod.id, resources=resources, overhead=pb.LinuxContainerResources())
