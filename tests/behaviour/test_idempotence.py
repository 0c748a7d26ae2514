"""What repeated calls and calls on unknown objects answer."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, Pod, refused

NOBODY = "0" * 64
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.mark.behaviour("IDM-01", "IDM-02", "IDM-03", "IDM-04", "IDM-05", "RMP-04", "STP-03", "STO-05")
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("StopPodSandbox", {"pod_sandbox_id": NOBODY}),
        ("RemovePodSandbox", {"pod_sandbox_id": NOBODY}),
        ("StopContainer", {"container_id": NOBODY, "timeout": 1}),
        ("RemoveContainer", {"container_id": NOBODY}),
        ("RemoveImage", {"image": pb.ImageSpec(image=f"sha256:{NOBODY}")}),
        ("RemoveImage", {"image": pb.ImageSpec(image="example.invalid/never/pulled:1")}),
    ],
)
def test_ending_the_unknown_is_ok_twice(cri: Cri, method: str, fields: dict[str, object]) -> None:
    cri(method, **fields)
    cri(method, **fields)


@pytest.mark.behaviour("IDM-06", "IMG-06")
@pytest.mark.parametrize("name", [f"sha256:{NOBODY}", "example.invalid/never/pulled:1", "never-pulled"])
def test_status_of_an_absent_image_is_ok_and_empty(cri: Cri, name: str) -> None:
    assert cri.image(name) is None


@pytest.mark.behaviour("IDM-07", "IDM-08", "IDM-10", "SBS-01", "CST-01", "EXS-01", "STS-01", "EXE-04", "CKP-01")
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("PodSandboxStatus", {"pod_sandbox_id": NOBODY}),
        ("ContainerStatus", {"container_id": NOBODY}),
        ("ContainerStats", {"container_id": NOBODY}),
        ("PodSandboxStats", {"pod_sandbox_id": NOBODY}),
        ("ExecSync", {"container_id": NOBODY, "cmd": ["true"]}),
        ("Exec", {"container_id": NOBODY, "cmd": ["true"], "stdout": True}),
        ("Attach", {"container_id": NOBODY, "stdout": True}),
        ("ReopenContainerLog", {"container_id": NOBODY}),
        ("UpdateContainerResources", {"container_id": NOBODY, "linux": pb.LinuxContainerResources(cpu_shares=10)}),
        ("CheckpointContainer", {"container_id": NOBODY, "location": "/tmp/never-written.tar"}),
    ],
)
def test_reading_and_using_the_unknown_is_not_found(cri: Cri, method: str, fields: dict[str, object]) -> None:
    with refused(NOT_FOUND):
        cri(method, **fields)


@pytest.mark.behaviour("IDM-09", "UPS-02", "EXE-06", "CRE-02")
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("StartContainer", {"container_id": NOBODY}),
        ("PortForward", {"pod_sandbox_id": NOBODY}),
        pytest.param(
            "UpdatePodSandboxResources",
            {"pod_sandbox_id": NOBODY},
            marks=pytest.mark.differs_from_containerd("the call is newer than 2.1"),
        ),
    ],
)
def test_starting_the_unknown_is_refused(cri: Cri, method: str, fields: dict[str, object]) -> None:
    with refused():
        cri(method, **fields)


@pytest.mark.behaviour("CRE-02")
def test_container_in_an_unknown_sandbox_is_refused(cri: Cri) -> None:
    with refused():
        cri(
            "CreateContainer",
            pod_sandbox_id=NOBODY,
            config=cri.container_config(),
            sandbox_config=cri.pod_config(),
        )


@pytest.mark.behaviour("IDM-09", "STT-01")
def test_second_start_is_refused_in_every_state(pod: Pod) -> None:
    running = pod.start()
    with refused():
        running.start()
    running.stop()
    with refused():
        running.start()
    assert running.status().state == pb.CONTAINER_EXITED


@pytest.mark.behaviour("IDM-09", "STT-01")
def test_of_two_starts_at_once_one_is_refused(cri: Cri, pod: Pod) -> None:
    container = pod.create()
    starts = [cri.begin("StartContainer", container_id=container.id) for _ in range(2)]
    assert [start.code() for start in starts].count(grpc.StatusCode.OK) == 1
    assert container.status().state == pb.CONTAINER_RUNNING


@pytest.mark.behaviour("IDM-11", "LSB-03", "LCT-04")
def test_lists_filtered_by_an_unknown_id_are_empty(cri: Cri) -> None:
    assert not cri.pods(id=NOBODY)
    assert not cri.containers(id=NOBODY)
    assert not cri.containers(pod_sandbox_id=NOBODY)
    assert not cri("ListContainerStats", filter=pb.ContainerStatsFilter(id=NOBODY)).stats
    assert not cri("ListPodSandboxStats", filter=pb.PodSandboxStatsFilter(id=NOBODY)).stats


@pytest.mark.behaviour("IDM-12", "RUN-02", "RMP-03")
def test_pod_identity_is_taken_until_the_pod_is_removed(cri: Cri) -> None:
    pod = cri.run_pod()
    for stop in (False, True):
        if stop:
            pod.stop()
        with refused():
            cri.run_pod(pod.config)
        assert [item.id for item in cri.pods() if item.metadata.uid == pod.config.metadata.uid] == [pod.id]
    pod.remove()
    again = cri.run_pod(pod.config)
    assert again.id != pod.id
    again.remove()


@pytest.mark.behaviour("RUN-02", "RUN-07")
def test_next_attempt_may_run_beside_the_dead_one(cri: Cri, new_pod: Callable[..., Pod]) -> None:
    first = new_pod()
    first.stop()
    config = pb.PodSandboxConfig()
    config.CopyFrom(first.config)
    config.metadata.attempt = 1
    second = cri.run_pod(config)
    listed = {item.id: item for item in cri.pods() if item.metadata.uid == config.metadata.uid}
    assert listed[first.id].state == pb.SANDBOX_NOTREADY
    assert listed[second.id].state == pb.SANDBOX_READY
    assert listed[second.id].metadata.attempt == 1
    assert listed[second.id].created_at > listed[first.id].created_at
    second.remove()


@pytest.mark.behaviour("IDM-12", "CRE-03")
def test_container_name_and_attempt_are_taken_until_removal(cri: Cri, pod: Pod) -> None:
    container = pod.create()
    with refused():
        pod.create_from(container.config)
    next_attempt = pb.ContainerConfig()
    next_attempt.CopyFrom(container.config)
    next_attempt.metadata.attempt = 1
    other = pod.create_from(next_attempt)
    assert other.status().metadata.attempt == 1
    container.remove()
    again = pod.create_from(container.config)
    assert again.id != container.id


@pytest.mark.behaviour("IDM-03", "IDM-04", "STO-05", "RMC-01")
def test_stop_and_remove_can_be_repeated(cri: Cri, pod: Pod) -> None:
    container = pod.create()
    container.stop(1)
    assert container.status().state == pb.CONTAINER_CREATED
    container.start()
    container.stop()
    finished_at = container.status().finished_at
    container.stop()
    container.stop(5)
    assert container.status().finished_at == finished_at
    container.remove()
    container.remove()
    with refused(NOT_FOUND):
        container.status()


@pytest.mark.behaviour("IDM-01", "IDM-02", "STP-03", "RMP-04")
def test_pod_can_be_stopped_and_removed_again_and_again(cri: Cri) -> None:
    pod = cri.run_pod()
    for _ in range(3):
        pod.stop()
    assert pod.status().state == pb.SANDBOX_NOTREADY
    calls = [cri.begin("RemovePodSandbox", pod_sandbox_id=pod.id) for _ in range(4)]
    for call in calls:
        call.result()
    assert not cri.pods(id=pod.id)
    pod.remove()
