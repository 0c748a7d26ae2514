"""The engine dies, hangs, restarts: reads go on, writes fail at once, recovery needs nobody."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, eventually, host_pids, refused
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.cri_server import CriServer
from tests.engines import RealEngine
from tests.processes import answers

pytestmark = OWN_SERVICE
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def server(own_engine: RealEngine, start_server: Callable[..., CriServer]) -> CriServer:
    """A service whose engine the test may take away."""
    return start_server(own_engine)


@pytest.fixture
def cri(server: CriServer) -> Iterator[Cri]:
    """A client of that service."""
    with service_client(server) as client:
        yield client


@pytest.fixture
def pod(cri: Cri) -> Pod:
    """A pod on that engine."""
    return cri.run_pod()


@pytest.fixture
def container(pod: Pod) -> Container:
    """A running container in it."""
    return pod.start()


def runtime_ready(cri: Cri) -> bool:
    """Return the condition RuntimeReady; it must always come at once."""
    conditions = cri("Status", deadline=2).status.conditions
    return next(bool(item.status) for item in conditions if item.type == "RuntimeReady")


def reads(cri: Cri, pod: Pod, container: Container) -> list[object]:
    """Make the reads that kubelet makes; each must come at once."""
    return [
        cri("ListPodSandbox", deadline=2),
        cri("ListContainers", deadline=2),
        cri("PodSandboxStatus", pod_sandbox_id=pod.id, deadline=2).status,
        cri("ContainerStatus", container_id=container.id, deadline=2).status,
        cri("Version", deadline=2).runtime_name,
    ]


def writes_fail_at_once(cri: Cri, pod: Pod, container: Container, within: float) -> None:
    """See that writes are refused as Unavailable, and quickly."""
    for method, fields in (
        ("RunPodSandbox", {"config": cri.pod_config()}),
        ("CreateContainer", {"pod_sandbox_id": pod.id, "config": cri.container_config(), "sandbox_config": pod.config}),
        ("StopContainer", {"container_id": container.id, "timeout": 1}),
        ("RemoveContainer", {"container_id": container.id}),
        ("StopPodSandbox", {"pod_sandbox_id": pod.id}),
        ("ExecSync", {"container_id": container.id, "cmd": ["true"], "timeout": 5}),
    ):
        started = time.monotonic()
        with refused(UNAVAILABLE):
            cri(method, **fields)
        assert time.monotonic() - started < within, method


@pytest.mark.behaviour("STA-12", "STA-14", "LSB-09", "GEN-17", "GEN-12", "LOD-42")
def test_dead_engine(cri: Cri, pod: Pod, container: Container, own_engine: RealEngine) -> None:
    before = reads(cri, pod, container)
    own_engine.kill()
    eventually(lambda: runtime_ready(cri), lambda ready: not ready, "RuntimeReady false", 15)
    assert reads(cri, pod, container) == before
    assert cri("ListContainerStats", deadline=5).stats
    writes_fail_at_once(cri, pod, container, within=3)
    assert reads(cri, pod, container) == before
    own_engine.start()
    eventually(lambda: runtime_ready(cri), bool, "RuntimeReady true", 30)
    assert reads(cri, pod, container) == before
    assert container.exec("echo", "back").stdout == b"back\n"
    assert pod.start().status().state == pb.CONTAINER_RUNNING
    pod.remove()
    cri.run_pod().remove()


@pytest.mark.behaviour("STA-12", "STA-14", "LSB-09")
def test_hanging_engine(cri: Cri, pod: Pod, container: Container, own_engine: RealEngine) -> None:
    before = reads(cri, pod, container)
    own_engine.freeze()
    try:
        assert reads(cri, pod, container) == before
        eventually(lambda: runtime_ready(cri), lambda ready: not ready, "RuntimeReady false", 40)
        assert reads(cri, pod, container) == before
        writes_fail_at_once(cri, pod, container, within=3)
    finally:
        own_engine.thaw()
    eventually(lambda: runtime_ready(cri), bool, "RuntimeReady true", 30)
    assert container.exec("echo", "back").stdout == b"back\n"
    pod.remove()


@pytest.mark.behaviour("STA-12", "CST-08", "UCR-02")
def test_starts_in_a_hanging_engine_go_through_or_can_be_repeated(
    cri: Cri, pod: Pod, own_engine: RealEngine, server: CriServer
) -> None:
    containers = [pod.create("sh", "-c", "echo began; exec sleep 300") for _ in range(8)]
    limits = pb.LinuxContainerResources(cpu_shares=300)
    for container in containers:
        cri("UpdateContainerResources", container_id=container.id, linux=limits)

    def start(number: int, container: Container) -> grpc.StatusCode | None:
        """Start at a moment of its own, so that the engine stops at another step of each; return the error's code."""
        threading.Event().wait(0.04 * number)
        try:
            container.start()
        except grpc.RpcError as error:
            return error.code()
        return None

    with ThreadPoolExecutor(len(containers)) as pool:
        starts = [pool.submit(start, *item) for item in enumerate(containers)]
        threading.Event().wait(0.04 * len(containers))
        own_engine.freeze()
        try:
            eventually(lambda: runtime_ready(cri), lambda ready: not ready, "RuntimeReady false", 40)
        finally:
            own_engine.thaw()
        errors = [done.result() for done in starts]
    assert UNAVAILABLE in errors
    assert set(errors) <= {None, UNAVAILABLE}
    eventually(lambda: runtime_ready(cri), bool, "RuntimeReady true", 30)
    server.restart()
    for container, error in zip(containers, errors, strict=True):
        assert container.status().resources.linux.cpu_shares == 300
        if error is not None and container.status().state == pb.CONTAINER_CREATED:
            start_until_running(container)
    for container in containers:
        status = container.status()
        assert status.state == pb.CONTAINER_RUNNING, (status.exit_code, status.reason, status.message)
        eventually(container.output, lambda output: output.startswith("began"), "the log")
    pod.remove()


def start_until_running(container: Container) -> None:
    """Start a container, whose earlier start the engine may be ending or going through with at this moment."""

    def runs() -> bool:
        with contextlib.suppress(grpc.RpcError):
            container.start()
        return container.status().state == pb.CONTAINER_RUNNING

    eventually(runs, bool, "the container running", 30)


@pytest.mark.behaviour("STA-12", "GEN-17")
def test_what_cannot_be_cleared_up_keeps_nobody_from_serving(
    cri: Cri, own_engine: RealEngine, server: CriServer
) -> None:
    if own_engine.kind != "containerd":
        pytest.skip("Docker keeps the files of pods itself")
    kept = server.root_dir / "containerd" / "sandboxes" / ("ab" * 32)
    others = kept.with_name("cd" * 32)
    for directory in (kept, others):
        directory.mkdir(parents=True)
        (directory / "resolv.conf").touch()
    subprocess.run(["chattr", "+i", kept / "resolv.conf"], check=True)
    try:
        own_engine.kill()
        eventually(lambda: runtime_ready(cri), lambda ready: not ready, "RuntimeReady false", 15)
        own_engine.start()
        eventually(lambda: runtime_ready(cri), bool, "RuntimeReady true", 30)
        assert (kept / "resolv.conf").exists()
        assert not others.exists()
    finally:
        subprocess.run(["chattr", "-i", kept / "resolv.conf"], check=True)


@pytest.mark.behaviour("LCT-08", "CST-08", "SBS-05", "RCR-20")
def test_what_ended_while_the_engine_was_away_is_seen(
    cri: Cri, pod: Pod, container: Container, own_engine: RealEngine
) -> None:
    other = cri.run_pod()
    dying = pod.start("sh", "-c", "sleep 2; exit 5")
    own_engine.kill()
    for pid in host_pids(other.id):
        os.kill(pid, signal.SIGKILL)
    threading.Event().wait(2.5)
    own_engine.start()
    eventually(lambda: runtime_ready(cri), bool, "RuntimeReady true", 30)
    status = dying.wait()
    assert status.exit_code in (5, 255)
    assert status.reason
    assert status.finished_at
    eventually(lambda: other.status().state, lambda state: state == pb.SANDBOX_NOTREADY, "NOTREADY")
    assert container.status().state == pb.CONTAINER_RUNNING
    other.remove()
    pod.remove()


@pytest.mark.behaviour("STA-12", "GEN-06")
def test_service_starts_without_an_engine_and_takes_it_when_it_comes(
    own_engine: RealEngine, start_server: Callable[..., CriServer]
) -> None:
    server = start_server(own_engine)
    with service_client(server) as cri:
        pod = cri.run_pod()
        server.stop()
        own_engine.stop()
        server.daemon.start(lambda: answers(server.socket))
        assert not runtime_ready(cri)
        with refused(UNAVAILABLE):
            cri("ListPodSandbox")
        own_engine.start()
        eventually(lambda: runtime_ready(cri), bool, "RuntimeReady true", 30)
        assert pod.status().state == pb.SANDBOX_READY
        pod.remove()


@pytest.mark.behaviour("LSB-08", "SBS-05", "LOD-43")
def test_what_others_do_to_the_engine_is_seen(cri: Cri, pod: Pod, container: Container, own_engine: RealEngine) -> None:
    own_engine.kill_container(container.id)
    eventually(lambda: container.status().state, lambda state: state == pb.CONTAINER_EXITED, "EXITED", 5)
    own_engine.remove_container(container.id)
    eventually(lambda: cri.containers(id=container.id), lambda found: not found, "its absence", 5)
    own_engine.remove_container(pod.id)
    eventually(
        lambda: cri.pods(id=pod.id, state=pb.PodSandboxStateValue(state=pb.SANDBOX_READY)),
        lambda found: not found,
        "its absence",
        5,
    )
    pod.remove()
    assert not cri.pods(id=pod.id)
