"""Pods that dockershim or cri-dockerd has left behind are listed, served and removed like our own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, Pod, eventually
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.behaviour.foreign import ForeignPod, checksum
from tests.behaviour.test_network import fetch
from tests.behaviour.traces import traces
from tests.cni import CniNetwork, free_host_port
from tests.cri_server import CriServer
from tests.engines import DockerEngine

pytestmark = OWN_SERVICE


@pytest.mark.parametrize(
    ("writer", "mappings", "host_network", "known"),
    [
        ("cri-dockerd", [], True, 12315789),
        ("dockershim", [], False, 815459779),
        ("cri-dockerd", [("tcp", 80, 8080, "")], False, 3712672205),
        ("dockershim", [("tcp", 80, 8080, ""), ("udp", 53, 5353, "10.0.0.1")], False, 4261403130),
    ],
)
def test_checksums_here_are_those_of_real_files(
    writer: str, mappings: list[tuple[object, ...]], host_network: bool, known: int
) -> None:
    keys = ("protocol", "container_port", "host_port", "host_ip")
    assert checksum(writer, [dict(zip(keys, mapping, strict=True)) for mapping in mappings], host_network) == known


@pytest.fixture
def server(own_docker_engine: DockerEngine, start_server: Callable[..., CriServer]) -> CriServer:
    """A service that was stopped: what the other one has made comes first."""
    server = start_server(own_docker_engine)
    server.stop()
    return server


@pytest.fixture
def cri(server: CriServer) -> Iterator[Cri]:
    """A client of that service."""
    with service_client(server) as client:
        yield client


def foreign_pod(server: CriServer, engine: DockerEngine, network: CniNetwork, writer: str) -> ForeignPod:
    """Make a pod as `writer` does."""
    pod = ForeignPod(engine, network, server.log_dir, server.directory / "foreign", writer, host_port=free_host_port())
    pod.make()
    return pod


def adopted(cri: Cri, pod: ForeignPod) -> Pod:
    """Return a foreign pod as one of ours; its config is what kubelet would send."""
    metadata = pb.PodSandboxMetadata(name="web-0", namespace="prod", uid=pod.uid, attempt=pod.attempt)
    log_directory = str(pod.log_path.parent.parent)
    return Pod(cri, pod.id, pb.PodSandboxConfig(metadata=metadata, log_directory=log_directory))


@pytest.mark.parametrize("writer", ["cri-dockerd", "dockershim"])
@pytest.mark.parametrize("running", [False, True], ids=["before our start", "while we run"])
def test_foreign_pod_is_listed_served_and_removed(
    cri: Cri, server: CriServer, own_docker_engine: DockerEngine, own_network: CniNetwork, writer: str, running: bool
) -> None:
    if running:
        server.start()
    foreign = foreign_pod(server, own_docker_engine, own_network, writer)
    if not running:
        server.start()
    pod = adopted(cri, foreign)
    listed = eventually(lambda: cri.pods(id=foreign.id), bool, "the pod in the list")[0]
    status = pod.status()
    for view in (listed, status):
        assert view.metadata == pod.config.metadata
        assert view.state == pb.SANDBOX_READY
        assert view.labels["app"] == "web"
        assert view.labels["io.kubernetes.pod.uid"] == foreign.uid
        assert dict(view.annotations) == foreign.annotations
        assert not [key for key in view.labels if key.startswith(("io.kubernetes.docker", "annotation."))]
    assert status.network.ip == foreign.ip
    assert status.linux.namespaces.options.network == pb.POD

    container = eventually(lambda: cri.containers(pod_sandbox_id=foreign.id), bool, "its container")[0]
    assert container.id == foreign.container_id
    assert container.metadata == pb.ContainerMetadata(name="app", attempt=1)
    assert container.state == pb.CONTAINER_RUNNING
    assert container.annotations["io.kubernetes.container.hash"] == "1a2b"
    container_status = cri("ContainerStatus", container_id=container.id).status
    assert container_status.log_path == str(foreign.log_path)
    assert container_status.image_ref
    assert [mount.container_path for mount in container_status.mounts] == ["/mnt"]
    assert container_status.mounts[0].readonly

    assert cri("ExecSync", container_id=container.id, cmd=["sh", "-c", "echo $A"], timeout=10).stdout == b"1\n"
    assert eventually(lambda: fetch(foreign.ip, 80), bool, "a page") == b"served\n"
    assert fetch("127.0.0.1", foreign.host_port) == b"served\n"
    assert "begun" in foreign.log_path.read_text()
    assert cri("ContainerStats", container_id=container.id).stats.memory.working_set_bytes.value

    ours = pod.start("sh", "-c", "wget -q -O - http://127.0.0.1/index.html; sleep 1000")
    assert eventually(ours.output, bool, "a page over the shared loopback") == "served"

    cri("StopContainer", container_id=container.id, timeout=1)
    assert cri("ContainerStatus", container_id=container.id).status.state == pb.CONTAINER_EXITED
    cri("RemoveContainer", container_id=container.id)
    pod.stop()
    assert pod.status().state == pb.SANDBOX_NOTREADY
    assert foreign.ip not in own_network.leases()
    pod.remove()
    assert not cri.pods(id=foreign.id)
    assert not foreign.checkpoint.exists()
    left = traces(server)
    assert not any(left.values()), left


def test_foreign_pod_whose_sandbox_has_died_is_cleaned_up(
    cri: Cri, server: CriServer, own_docker_engine: DockerEngine, own_network: CniNetwork
) -> None:
    foreign = foreign_pod(server, own_docker_engine, own_network, "cri-dockerd")
    own_docker_engine.client.api.kill(foreign.id)
    server.start()
    pod = adopted(cri, foreign)
    eventually(lambda: pod.status().state, lambda state: state == pb.SANDBOX_NOTREADY, "NOTREADY")
    pod.remove()
    left = eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")
    assert not left["addresses"]


@pytest.mark.parametrize("content", ["sound", "damaged", "no json"])
def test_checkpoint_without_a_pod_does_no_harm_and_goes_with_its_removal(
    cri: Cri, server: CriServer, content: str
) -> None:
    folder = server.directory / "foreign" / "sandbox"
    folder.mkdir(parents=True)
    path = folder / secrets.token_hex(32)
    document = {"version": "v1", "name": "gone-0", "namespace": "prod", "data": {"host_network": True}}
    sum_of_data = checksum("cri-dockerd", [], True) + (content == "damaged")
    path.write_text("{" if content == "no json" else json.dumps({**document, "checksum": sum_of_data}))
    server.start()
    assert cri("Version").runtime_name
    cri.pods()
    cri("StopPodSandbox", pod_sandbox_id=path.name)
    cri("RemovePodSandbox", pod_sandbox_id=path.name)
    assert not Path(path).exists()
    assert path.name not in {pod.id for pod in cri.pods()}


def test_our_pods_look_like_those_of_cri_dockerd(cri: Cri, server: CriServer, own_docker_engine: DockerEngine) -> None:
    server.start()
    pod = cri.run_pod(cri.pod_config(labels={"app": "web"}, annotations={"seen": "now"}))
    container = pod.start(annotations={"io.kubernetes.container.hash": "1a2b"})
    sandbox = own_docker_engine.client.api.inspect_container(pod.id)
    metadata = pod.config.metadata
    assert sandbox["Name"] == f"/k8s_POD_{metadata.name}_{metadata.namespace}_{metadata.uid}_{metadata.attempt}"
    labels = sandbox["Config"]["Labels"]
    assert labels["io.kubernetes.docker.type"] == "podsandbox"
    assert labels["io.kubernetes.container.name"] == "POD"
    assert labels["app"] == "web"
    assert labels["annotation.seen"] == "now"
    assert sandbox["HostConfig"]["IpcMode"] == "shareable"
    body = own_docker_engine.client.api.inspect_container(container.id)
    name = container.config.metadata.name
    assert body["Name"] == f"/k8s_{name}_{metadata.name}_{metadata.namespace}_{metadata.uid}_0"
    labels = body["Config"]["Labels"]
    assert labels["io.kubernetes.docker.type"] == "container"
    assert labels["io.kubernetes.sandbox.id"] == pod.id
    assert labels["io.kubernetes.container.logpath"] == str(container.log_path)
    assert labels["annotation.io.kubernetes.container.hash"] == "1a2b"
    pod.remove()
