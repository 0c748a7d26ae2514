"""Docker and containerd behind one socket, both real."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, eventually
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.cni import CniNetwork
from tests.conftest import start_engine
from tests.cri_server import CriServer
from tests.engines import ContainerdNode, DockerEngine

pytestmark = [OWN_SERVICE, pytest.mark.timeout(400)]


class BothEngines:
    """A service on two engines; the default one is chosen while it is stopped."""

    def __init__(self, docker: DockerEngine, containerd: ContainerdNode, network: CniNetwork) -> None:
        self.docker = docker
        self.containerd = containerd
        flags = ["--backend=both", f"--containerd-endpoint={containerd.endpoint}"]
        self.server = CriServer(docker, network, flags)

    def start(self, default: str = "") -> None:
        """Start the service anew, killing the one that runs."""
        self.server.kill()
        if default:
            with contextlib.closing(sqlite3.connect(self.server.root_dir / "state.db")) as database:
                database.execute("INSERT OR REPLACE INTO choices VALUES ('default_engine', ?)", (default,))
                database.commit()
        self.server.start()

    def engine_of(self, object_id: str) -> str:
        """Return which engine has a pod or container."""
        on_docker = object_id in {one["Id"] for one in self.docker.client.api.containers(all=True)}
        on_containerd = object_id in self.containerd.ctr("containers", "list", "--quiet").split()
        return {(True, False): "docker", (False, True): "containerd"}.get((on_docker, on_containerd), "neither or both")


@pytest.fixture(scope="module")
def second_engine() -> Iterator[ContainerdNode]:
    """The containerd beside Docker, with the test images."""
    engine = start_engine("containerd-1.6")
    assert isinstance(engine, ContainerdNode)
    yield engine
    engine.close()


@pytest.fixture
def both(
    own_docker_engine: DockerEngine, second_engine: ContainerdNode, own_network: CniNetwork
) -> Iterator[BothEngines]:
    """A service that has pods on neither engine yet."""
    both = BothEngines(own_docker_engine, second_engine, own_network)
    both.start()
    yield both
    both.server.close()
    second_engine.remove_all_containers()


def remove_pods(client: Cri, *pod_ids: str) -> None:
    for pod_id in pod_ids:
        client("StopPodSandbox", pod_sandbox_id=pod_id)
        client("RemovePodSandbox", pod_sandbox_id=pod_id)
    assert not client("ListPodSandbox").items
    assert not client("ListContainers").containers


def address(client: Cri, pod_id: str) -> str:
    return str(client("PodSandboxStatus", pod_sandbox_id=pod_id).status.network.ip)


def says_hi(client: Cri, container_id: str) -> bool:
    """Return whether a command can be run in a container, of an engine that may be away."""
    try:
        reply = client("ExecSync", container_id=container_id, cmd=["echo", "hi"], timeout=10)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return bool(reply.stdout == b"hi\n")


@pytest.mark.behaviour("LSB-09", "GEN-08", "IMG-67", "IMG-64", "STS-08", "IMG-61")
def test_pods_of_both_are_served_side_by_side(both: BothEngines, own_network: CniNetwork) -> None:
    with service_client(both.server) as client:
        first = client.run_pod()
        one = first.start("sleep", "1000")
        tags = [tag for image in client("ListImages").images for tag in image.repo_tags]
        assert len(tags) == len(set(tags))
    both.start("containerd")
    with service_client(both.server) as client:
        second = client.run_pod()
        two = second.start("sleep", "1000")
        owners = [both.engine_of(one) for one in (first.id, one.id, second.id, two.id)]
        assert owners == ["docker", "docker", "containerd", "containerd"]
        assert {pod.id for pod in client("ListPodSandbox").items} == {first.id, second.id}
        image_ids = {item.id: item.image_id for item in client("ListContainers").containers}
        busybox = client.image(client.images["busybox"])
        assert busybox is not None
        assert image_ids[two.id] == busybox.id
        assert set(image_ids.values()) <= {image.id for image in client("ListImages").images}
        if (
            not both.docker.options.containerd_image_store
        ):  # whose id is the manifest's, and these images have no digest
            assert image_ids[one.id] == busybox.id
        addresses = {address(client, pod_id) for pod_id in (first.id, second.id)}
        assert sorted(own_network.leases()) == sorted(addresses)
        assert says_hi(client, one.id)
        assert says_hi(client, two.id)
        eventually(lambda: client("ListContainerStats").stats, lambda stats: len(stats) == 2, "stats of both")
        assert len(client("ImageFsInfo").image_filesystems) == 1
        remove_pods(client, first.id, second.id)
    assert not own_network.leases()


@pytest.mark.behaviour("LSB-09", "GEN-12")
def test_one_engine_away_leaves_the_other_served_also_over_a_restart(both: BothEngines) -> None:
    with service_client(both.server) as client:
        first = client.run_pod()
        one = first.start("sleep", "1000")
    both.start("containerd")
    both.docker.stop()
    with service_client(both.server) as client:
        second = client.run_pod()
        two = second.start("sleep", "1000")
        conditions = {one.type: one.status for one in client("Status").status.conditions}
        assert conditions == {"RuntimeReady": True, "NetworkReady": True}
        with pytest.raises(grpc.RpcError) as refused:
            client("StopPodSandbox", pod_sandbox_id=first.id)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    both.start()
    with service_client(both.server) as client:
        states = {item.id: item.state for item in client("ListContainers").containers}
        assert states == {one.id: pb.CONTAINER_RUNNING, two.id: pb.CONTAINER_RUNNING}
        assert {pod.state for pod in client("ListPodSandbox").items} == {pb.SANDBOX_READY}
        assert client("ContainerStatus", container_id=one.id).status.log_path
        assert address(client, first.id)
        assert says_hi(client, two.id)
        assert not says_hi(client, one.id)
        both.docker.start()
        eventually(lambda: says_hi(client, one.id), bool, "the service of Docker's pod")
        remove_pods(client, first.id, second.id)
