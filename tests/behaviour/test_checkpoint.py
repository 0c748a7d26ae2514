"""CheckpointContainer: refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, refused


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


@pytest.mark.behaviour("CKP-04", "CKP-01")
@pytest.mark.skipif(shutil.which("criu") is not None, reason="this host has CRIU")
def test_checkpoint_without_criu_is_an_error_and_the_container_goes_on(
    cri: Cri, container: Container, host_directory: Path
) -> None:
    location = host_directory / "checkpoint.tar"
    with pytest.raises(grpc.RpcError):
        cri("CheckpointContainer", container_id=container.id, location=str(location))
    assert not location.exists()
    assert container.status().state == pb.CONTAINER_RUNNING
    assert container.exec("true").exit_code == 0


@pytest.mark.behaviour("CKP-02")
@pytest.mark.skipif(shutil.which("criu") is None, reason="this host has no CRIU")
def test_symlink_at_the_location_is_not_followed(cri: Cri, container: Container, host_directory: Path) -> None:
    victim = host_directory / "victim"
    victim.write_text("precious")
    link = host_directory / "checkpoint.tar"
    link.symlink_to(victim)
    with pytest.raises(grpc.RpcError):
        cri("CheckpointContainer", container_id=container.id, location=str(link))
    assert victim.read_text() == "precious"
