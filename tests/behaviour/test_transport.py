"""Rules for all calls: sizes, missing messages, short ids, concurrency, cancellation, the older API version."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, code_of, eventually, methods, refused

_REQUIRED = {
    "Version", "Status", "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus", "ListPodSandbox",
    "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "ListContainers", "ContainerStatus",
    "UpdateContainerResources", "ReopenContainerLog", "ExecSync", "Exec", "Attach", "PortForward", "ContainerStats",
    "ListContainerStats", "PodSandboxStats", "ListPodSandboxStats", "UpdateRuntimeConfig", "RuntimeConfig",
    "ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo",
}  # fmt: skip


@pytest.mark.behaviour("GEN-03")
def test_requests_above_four_mebibytes_are_taken(cri: Cri) -> None:
    with refused(grpc.StatusCode.NOT_FOUND):
        cri("ExecSync", container_id="0" * 64, cmd=["x" * (6 * 1024 * 1024)])


@pytest.mark.behaviour("GEN-05", "EVT-11")
@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_answers_at_once(cri: Cri, method: str) -> None:
    def make() -> None:
        if method == "GetContainerEvents":
            cri.stream(method, deadline=10).cancel()
        elif methods()[method][1].server_streaming:
            list(cri.stream(method, deadline=10))
        else:
            cri(method, deadline=10)

    code = code_of(make)
    assert code != grpc.StatusCode.DEADLINE_EXCEEDED
    assert code != grpc.StatusCode.UNIMPLEMENTED or method not in _REQUIRED


@pytest.mark.behaviour("GEN-16", "RUN-01", "CRE-01", "EXE-01")
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("RunPodSandbox", {}),
        ("RunPodSandbox", {"config": pb.PodSandboxConfig()}),
        ("CreateContainer", {}),
        ("CreateContainer", {"pod_sandbox_id": "0" * 64}),
        ("CreateContainer", {"pod_sandbox_id": "0" * 64, "config": pb.ContainerConfig()}),
        ("PullImage", {}),
        ("PullImage", {"image": pb.ImageSpec()}),
        ("Exec", {}),
        ("ExecSync", {}),
        ("StartContainer", {}),
        ("ContainerStatus", {}),
        ("PodSandboxStatus", {}),
        ("UpdateContainerResources", {}),
        ("CheckpointContainer", {}),
    ],
)
def test_missing_messages_are_refused_and_the_server_goes_on(cri: Cri, method: str, fields: dict[str, object]) -> None:
    with refused():
        cri(method, **fields)
    assert cri("Version").runtime_name


@pytest.mark.behaviour("GEN-16", "CRE-01")
@pytest.mark.parametrize("missing", ["metadata", "image"])
def test_container_without_metadata_or_image_is_refused(cri: Cri, pod: Pod, missing: str) -> None:
    config = cri.container_config()
    config.ClearField(missing)
    before = {item.id for item in cri.containers(pod_sandbox_id=pod.id)}
    with refused():
        pod.create_from(config)
    assert {item.id for item in cri.containers(pod_sandbox_id=pod.id)} == before


@pytest.mark.behaviour("GEN-08", "RUN-04", "CRE-06")
def test_ids_are_64_lower_case_hex_digits(pod: Pod, container: Container) -> None:
    for object_id in (pod.id, container.id):
        assert len(object_id) == 64
        assert set(object_id) <= set("0123456789abcdef")


@pytest.mark.behaviour("GEN-09", "LSB-03", "LCT-04")
def test_unambiguous_prefix_of_an_id_will_do(cri: Cri, pod: Pod, container: Container) -> None:
    short_pod, short_container = pod.id[:13], container.id[:13]
    assert cri("PodSandboxStatus", pod_sandbox_id=short_pod).status.id == pod.id
    assert cri("ContainerStatus", container_id=short_container).status.id == container.id
    assert [item.id for item in cri.pods(id=short_pod)] == [pod.id]
    assert [item.id for item in cri.containers(id=short_container)] == [container.id]
    assert container.id in [item.id for item in cri.containers(pod_sandbox_id=short_pod)]
    assert cri("ExecSync", container_id=short_container, cmd=["true"], timeout=10).exit_code == 0
    assert cri("ContainerStats", container_id=short_container).stats.attributes.id == container.id


@pytest.mark.behaviour("GEN-09")
def test_prefixes_will_do_for_writes(cri: Cri, pod: Pod) -> None:
    short = pod.create().id[:13]
    cri("StartContainer", container_id=short)
    cri("StopContainer", container_id=short, timeout=0)
    assert cri("ContainerStatus", container_id=short).status.state == pb.CONTAINER_EXITED
    cri("RemoveContainer", container_id=short)
    assert not cri.containers(id=short)


@pytest.mark.behaviour("GEN-09")
def test_ambiguous_prefix_is_refused(cri: Cri, pod: Pod) -> None:
    ids = [pod.create().id for _ in range(17)]
    shared = next(
        first[:length]
        for length in (2, 1)
        for first in ids
        if sum(other.startswith(first[:length]) for other in ids) > 1
    )
    with refused():
        cri("ContainerStatus", container_id=shared)


@pytest.mark.behaviour("GEN-10", "IMG-02")
def test_image_ids_come_in_several_forms(cri: Cri) -> None:
    image_id = cri.images["busybox"]
    bare = image_id.removeprefix("sha256:")
    for form in (image_id, bare, bare[:12], f"sha256:{bare[:12]}"):
        found = cri.image(form)
        assert found is not None, form
        assert found.id == image_id


@pytest.mark.behaviour("GEN-11")
def test_times_are_nanoseconds_of_now(pod: Pod, container: Container) -> None:
    for value in (pod.status().created_at, container.status().created_at, container.status().started_at):
        assert abs(time.time_ns() - value) < 3600 * 10**9


@pytest.mark.behaviour("GEN-13", "STO-11")
def test_long_stop_holds_nobody_else_up(cri: Cri, pod: Pod) -> None:
    stubborn = pod.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    eventually(stubborn.output, lambda text: text == "ready", "the trap")
    stopping = cri.begin("StopContainer", container_id=stubborn.id, timeout=4)
    started = time.monotonic()
    other = pod.start()
    assert other.exec("true").exit_code == 0
    cri.pods()
    other.stop()
    other.remove()
    assert stubborn.status().state == pb.CONTAINER_RUNNING
    assert time.monotonic() - started < 4
    stopping.result()
    assert stubborn.status().state == pb.CONTAINER_EXITED


@pytest.mark.behaviour("GEN-13", "LOD-25", "CRE-19")
def test_many_pods_at_once(cri: Cri) -> None:
    configs = [cri.pod_config() for _ in range(6)]
    running = [cri.begin("RunPodSandbox", config=config) for config in configs]
    pods = [Pod(cri, call.result().pod_sandbox_id, config) for call, config in zip(running, configs, strict=True)]
    addresses = {pod.ip() for pod in pods}
    ending = [cri.begin("StopPodSandbox", pod_sandbox_id=pod.id) for pod in pods]
    for call in ending:
        call.result()
    for pod in pods:
        cri("RemovePodSandbox", pod_sandbox_id=pod.id)
    assert len(addresses) == len(pods)


@pytest.mark.behaviour("CRE-19")
def test_two_containers_of_a_pod_can_be_created_at_once(cri: Cri, pod: Pod) -> None:
    calls = [
        cri.begin("CreateContainer", pod_sandbox_id=pod.id, config=cri.container_config(), sandbox_config=pod.config)
        for _ in range(4)
    ]
    assert len({call.result().container_id for call in calls}) == 4


@pytest.mark.behaviour("GEN-14", "GEN-15", "RUN-02", "RUN-06", "RUN-07")
def test_cancelled_run_leaves_nothing_or_a_whole_pod(cri: Cri) -> None:
    chance = random.Random(1)
    for _ in range(6):
        config = cri.pod_config()
        call = cri.begin("RunPodSandbox", config=config)
        threading.Event().wait(chance.uniform(0.0, 0.3))
        call.cancel()
        pod_id = _listed_or_made(
            lambda config=config: [pod.id for pod in cri.pods() if pod.metadata.uid == config.metadata.uid],
            lambda config=config: cri.run_pod(config).id,
        )
        pod = Pod(cri, pod_id, config)
        assert pod.status().state == pb.SANDBOX_READY
        assert pod.ip()
        pod.remove()


@pytest.mark.behaviour("GEN-14", "GEN-15", "CRE-07", "CRE-03")
def test_cancelled_create_leaves_nothing_or_a_whole_container(cri: Cri, pod: Pod) -> None:
    chance = random.Random(2)
    for _ in range(8):
        config = cri.container_config()
        call = cri.begin("CreateContainer", pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config)
        threading.Event().wait(chance.uniform(0.0, 0.1))
        call.cancel()
        container_id = _listed_or_made(
            lambda name=config.metadata.name: [
                item.id for item in cri.containers(pod_sandbox_id=pod.id) if item.metadata.name == name
            ],
            lambda config=config: pod.create_from(config).id,
        )
        cri("StartContainer", container_id=container_id)
        cri("RemoveContainer", container_id=container_id)


def _listed_or_made(listed: Callable[[], list[str]], make: Callable[[], str]) -> str:
    """Return the one object that a cancelled call made, or else make it, as kubelet does with its back-off."""
    deadline = time.monotonic() + 20
    while True:
        time.sleep(0.1)
        if found := listed():
            (only,) = found
            return only
        try:
            return make()
        except grpc.RpcError:
            if time.monotonic() > deadline:
                raise


@pytest.mark.behaviour("GEN-15")
def test_sandbox_is_not_listed_ready_before_it_is(cri: Cri) -> None:
    config = cri.pod_config()
    call = cri.begin("RunPodSandbox", config=config)
    while not call.done():
        for item in cri.pods(state=pb.PodSandboxStateValue(state=pb.SANDBOX_READY)):
            if item.metadata.uid == config.metadata.uid:
                assert cri("PodSandboxStatus", pod_sandbox_id=item.id).status.network.ip
    Pod(cri, call.result().pod_sandbox_id, config).remove()


@pytest.fixture
def older(cri: Cri) -> Iterator[Cri]:
    """A client that uses the API version of kubelets before 1.26."""
    client = Cri(cri.socket, cri.log_root, "runtime.v1alpha2")
    client.images = cri.images
    yield client
    client.close()


@pytest.mark.behaviour("GEN-01")
@pytest.mark.differs_from_containerd("it has dropped the older API version")
def test_older_api_version_serves_a_pod_from_start_to_end(older: Cri) -> None:
    assert older("Version").runtime_name
    assert {condition.type for condition in older("Status").status.conditions} >= {"RuntimeReady", "NetworkReady"}
    pod = older.run_pod()
    assert pod.ip()
    container = pod.start("sh", "-c", "echo from the older one; sleep 600")
    assert container.exec("echo", "hello").stdout == b"hello\n"
    assert container.status().state == pb.CONTAINER_RUNNING
    assert container.listed().pod_sandbox_id == pod.id
    assert older("ListImages").images
    assert older("ImageFsInfo").image_filesystems
    assert older("ContainerStats", container_id=container.id).stats.cpu.timestamp
    assert older("ListContainerStats").stats
    assert older("Exec", container_id=container.id, cmd=["sh"], stdout=True).url
    container.stop()
    container.remove()
    pod.remove()
    assert not older.pods(id=pod.id)


@pytest.mark.behaviour("GEN-01", "GEN-05")
@pytest.mark.differs_from_containerd("it has dropped the older API version")
def test_older_api_version_knows_every_method_of_its_time(older: Cri) -> None:
    codes = {method: code_of(lambda method=method: older(method, deadline=10)) for method in _REQUIRED}
    assert not [method for method, code in codes.items() if code == grpc.StatusCode.UNIMPLEMENTED]
