"""CheckpointContainer: what is refused, what cannot be done, and an archive where CRIU works."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, code_of, eventually, refused, stopped_shim
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.cri_server import CriServer
from tests.engines import ContainerdNode, RealEngine


@pytest.mark.behaviour("CKP-01", "IDM-10")
@pytest.mark.parametrize("state", ["created", "exited"])
def test_checkpoint_of_what_does_not_run_is_refused(cri: Cri, pod: Pod, host_directory: Path, state: str) -> None:
    container = pod.create("true") if state == "created" else pod.run("true")
    location = host_directory / "checkpoint.tar"
    with pytest.raises(grpc.RpcError):
        cri("CheckpointContainer", container_id=container.id, location=str(location))
    assert not location.exists()


@pytest.mark.behaviour("CKP-03")
@pytest.mark.differs_from_containerd("it looks for CRIU first, and does not look at the timeout")
def test_negative_timeout_is_refused(cri: Cri, container: Container, host_directory: Path) -> None:
    location = host_directory / "checkpoint.tar"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED):
        cri("CheckpointContainer", container_id=container.id, location=str(location), timeout=-1)
    assert not location.exists()


@functools.cache
def criu_works() -> bool:
    """Whether this host has a CRIU that runs on its kernel."""
    return shutil.which("criu") is not None and subprocess.run(["criu", "check"], capture_output=True).returncode == 0


@pytest.mark.behaviour("CKP-04", "CKP-01")
def test_a_checkpoint_that_cannot_be_made_leaves_the_container_running(
    cri: Cri, container: Container, host_directory: Path, engine: RealEngine
) -> None:
    if criu_works() and engine.kind == "containerd":
        pytest.skip("here it can be made")
    location = host_directory / "checkpoint.tar"
    with pytest.raises(grpc.RpcError):
        cri("CheckpointContainer", container_id=container.id, location=str(location))
    assert list(host_directory.iterdir()) == []
    assert container.status().state == pb.CONTAINER_RUNNING
    assert container.exec("true").exit_code == 0


@pytest.mark.behaviour("CKP-01", "CKP-02")
def test_a_checkpoint_is_an_archive_of_the_container(
    cri: Cri, container: Container, host_directory: Path, engine: RealEngine
) -> None:
    if engine.kind != "containerd":
        pytest.skip("Docker Engine gives no archive")
    if not criu_works():
        pytest.skip("CRIU does not run on this host's kernel")
    container.sh("echo changed > /changed")
    location = host_directory / "checkpoint.tar"
    cri("CheckpointContainer", container_id=container.id, location=str(location))
    assert location.stat().st_mode & 0o777 == 0o600
    with tarfile.open(location) as archive:
        names = set(archive.getnames())
        layer = archive.extractfile("rootfs-diff.tar")
        assert layer is not None
        with tarfile.open(fileobj=layer) as changes:
            assert "changed" in changes.getnames()
    assert {"checkpoint/inventory.img", "config.dump", "spec.dump", "status.dump", "container.log"} <= names
    assert list(host_directory.iterdir()) == [location]
    assert container.status().state == pb.CONTAINER_RUNNING
    assert container.exec("true").exit_code == 0


@OWN_SERVICE
@pytest.mark.behaviour("CKP-01", "CKP-03", "CKP-04")
@pytest.mark.parametrize("given_up", ["by the timeout", "by the caller"])
def test_a_checkpoint_that_is_given_up_during_the_pause_leaves_the_container_running(
    cri: Cri, container: Container, host_directory: Path, engine: RealEngine, given_up: str
) -> None:
    if engine.kind != "containerd":
        pytest.skip("Docker Engine gives no archive")
    if shutil.which("criu") is None:
        pytest.skip("CRIU is not installed")
    location = str(host_directory / "checkpoint.tar")
    with stopped_shim(container.id):
        call = cri.begin("CheckpointContainer", container_id=container.id, location=location, timeout=1)
        threading.Event().wait(0.5)
        if given_up == "by the caller":
            call.cancel()
        threading.Event().wait(1)
    if given_up == "by the timeout":
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
            call.result()
    answer = functools.partial(code_of, lambda: container.exec("true"))
    eventually(answer, lambda code: code is grpc.StatusCode.OK, "a container that is not paused")
    assert list(host_directory.iterdir()) == []


@pytest.mark.behaviour("CKP-02")
def test_symlink_at_the_location_is_not_followed(cri: Cri, container: Container, host_directory: Path) -> None:
    victim = host_directory / "victim"
    victim.write_text("precious")
    link = host_directory / "checkpoint.tar"
    link.symlink_to(victim)
    with contextlib.suppress(grpc.RpcError):  # made in the link's place, or refused
        cri("CheckpointContainer", container_id=container.id, location=str(link))
    assert victim.read_text() == "precious"


@pytest.mark.behaviour("CKP-01")
def test_a_container_that_a_killed_service_left_paused_goes_on(
    engine: RealEngine, start_server: Callable[..., CriServer], host_directory: Path
) -> None:
    if not isinstance(engine, ContainerdNode):
        pytest.skip("no checkpoints on Docker Engine")
    other = engine.for_another_service()
    server = start_server(other)
    with service_client(server) as cri:
        container = cri.run_pod().start()
        server.kill()
        partial = host_directory / ".checkpoint.tar.part"
        partial.write_text("half")
        work = server.root_dir / "containerd" / "checkpoints" / container.id
        work.mkdir(parents=True)
        (work / "location").write_text(str(partial))
        other.ctr("tasks", "pause", container.id)
        assert "PAUSED" in other.ctr("tasks", "ls")
        server.start()
        eventually(lambda: container.exec("true").exit_code, lambda code: code == 0, "the container goes on")
        eventually(work.exists, lambda there: not there, "the end of the directory")
        assert not partial.exists()
        container.pod.remove()
