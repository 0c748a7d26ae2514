"""Fixtures of the behaviour suite: one node under test, whatever runs it, and pods on it.

By default the node is this service on each engine of `--engine`. With CRI_ENDPOINT=unix:///… the suite runs
against any CRI socket; with CRI_ENDPOINT=containerd it starts containerd's own CRI plugin and runs against that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.pause.archive import BuiltImage
from cri_dockerd_py.pause.image import pause_image
from tests import images
from tests.behaviour.client import Container, Cri, Pod
from tests.behaviour.registries import push
from tests.behaviour.yardstick import Yardstick
from tests.cni import CniNetwork
from tests.conftest import start_engine
from tests.cri_server import CriServer
from tests.engines import RealEngine, RegistryServer
from tests.processes import erase, private_directory

ENDPOINT = os.environ.get("CRI_ENDPOINT", "")
ENDPOINT_NAME = os.environ.get("CRI_NAME", ENDPOINT)
IMAGES = {
    "busybox": images.BUSYBOX,
    "user-uid": images.USER_UID,
    "user-name": images.USER_NAME,
    "user-uid-group": images.USER_UID_GROUP,
    "user-name-group": images.USER_NAME_GROUP,
    "user-in-group": images.USER_IN_GROUP,
    "volume": images.VOLUME,
    "stop-signal": images.STOP_SIGNAL,
    "entrypoint": images.ENTRYPOINT,
}


OWN_SERVICE = pytest.mark.skipif(bool(ENDPOINT), reason="of this service alone, not of any CRI server")


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """What the suite runs against."""

    name: str
    socket: str
    is_containerd: bool


def pytest_configure(config: pytest.Config) -> None:
    """Register the suite's own mark."""
    config.addinivalue_line("markers", "differs_from_containerd(why): containerd's CRI plugin fails this on purpose")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the behaviour ids and the engine of each test into its report."""
    for item in items:
        ids = [name for mark in item.iter_markers("behaviour") for name in mark.args]
        if ids:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            item.user_properties.append(("behaviour", " ".join(ids)))
            item.user_properties.append(("engine", str(parameters.get("engine_name", ENDPOINT_NAME or "none"))))
        for mark in item.iter_markers("differs_from_containerd"):
            if ENDPOINT == "containerd":
                item.add_marker(pytest.mark.xfail(reason=mark.args[0]))


if ENDPOINT == "containerd":

    @pytest.fixture(scope="session")
    def node(registry: RegistryServer, network: CniNetwork) -> Iterator[Node]:
        """containerd's own CRI plugin."""
        pause = push(registry.address, "pause", "1", pause_image(platform.machine()))
        yardstick = Yardstick(pause, network)
        try:
            yardstick.start()
            yield Node("containerd", str(yardstick.socket), is_containerd=True)
        finally:
            yardstick.close()

elif ENDPOINT:

    @pytest.fixture(scope="session")
    def node() -> Node:
        """The CRI socket that the caller named."""
        return Node(ENDPOINT_NAME, ENDPOINT.removeprefix("unix://"), is_containerd="containerd" in ENDPOINT_NAME)

else:

    @pytest.fixture(scope="session")
    def node(cri_server: CriServer, engine_name: str) -> Node:
        """This service on an engine."""
        return Node(engine_name, str(cri_server.socket), is_containerd=False)


@pytest.fixture(scope="session")
def cri(node: Node, registry: RegistryServer) -> Iterator[Cri]:
    """A client of the node, which has the test images when this returns."""
    log_root = private_directory("l")
    client = Cri(node.socket, log_root)
    for short, name in IMAGES.items():
        client.images[short] = _provide(client, registry, name)
    yield client
    for pod in client.pods():
        if pod.metadata.namespace == "behaviour":
            with contextlib.suppress(grpc.RpcError):
                client("StopPodSandbox", pod_sandbox_id=pod.id)
                client("RemovePodSandbox", pod_sandbox_id=pod.id)
    client.close()
    erase(log_root)


def _provide(client: Cri, registry: RegistryServer, name: str) -> str:
    """Return the id of a test image, pulling it from the registry where the node has not got it."""
    present = client.image(name)
    if present is not None:
        return str(present.id)
    repository, _, tag = name.partition(":")
    reference = push(registry.address, repository, tag, images.build(name))
    return str(client("PullImage", image=pb.ImageSpec(image=reference)).image_ref)


@pytest.fixture(scope="session")
def status(cri: Cri) -> pb.StatusResponse:
    """The node's Status."""
    return cri("Status")


@pytest.fixture(scope="session")
def default_features(status: pb.StatusResponse) -> pb.RuntimeHandlerFeatures:
    """The features of the default runtime handler."""
    return next(handler.features for handler in status.runtime_handlers if handler.name == "")


@pytest.fixture(scope="session")
def cgroup_parent(cri: Cri) -> str:
    """A cgroup for pods, in the way that the node's cgroup driver names it."""
    if cri("RuntimeConfig").linux.cgroup_driver == pb.SYSTEMD:
        return "/behaviour.slice"
    return f"/behaviour-{os.getpid()}"


@pytest.fixture(scope="module")
def pod(cri: Cri) -> Iterator[Pod]:
    """A pod with a network of its own, shared by the tests of a module."""
    pod = cri.run_pod()
    yield pod
    pod.remove()


@pytest.fixture(scope="module")
def host_pod(cri: Cri) -> Iterator[Pod]:
    """A pod in the host's network, shared by the tests of a module."""
    pod = cri.run_pod(cri.pod_config(linux=pb.LinuxPodSandboxConfig(security_context=host_network())))
    yield pod
    pod.remove()


@pytest.fixture(scope="module")
def container(pod: Pod) -> Container:
    """A running container of the shared pod; tests that change it start their own."""
    return pod.start()


@pytest.fixture
def new_pod(cri: Cri) -> Iterator[Callable[..., Pod]]:
    """A function that runs a pod with the given fields of its config; it is removed after the test."""
    made: list[str] = []

    def run(runtime_handler: str = "", **fields: Any) -> Pod:
        pod = cri.run_pod(cri.pod_config(**fields), runtime_handler)
        made.append(pod.id)
        return pod

    yield run
    for pod_id in made:
        cri("StopPodSandbox", pod_sandbox_id=pod_id)
        cri("RemovePodSandbox", pod_sandbox_id=pod_id)


@pytest.fixture
def unique_image() -> BuiltImage:
    """An image that nobody else has: its removal disturbs no other test."""
    return images.build(images.BUSYBOX, {"Labels": {"unique": secrets.token_hex(8)}})


@pytest.fixture
def host_directory() -> Iterator[Path]:
    """A directory on the host that is erased after the test, mounts below it included."""
    directory = private_directory("h")
    yield directory
    erase(directory)


@pytest.fixture(scope="module")
def module_engine(engine_name: str) -> Iterator[RealEngine]:
    """An engine for the tests of one module."""
    engine = start_engine(engine_name)
    yield engine
    engine.close()


@pytest.fixture
def own_engine(module_engine: RealEngine) -> Iterator[RealEngine]:
    """An engine that a test may stop, freeze or kill; it is put in order for the next test of the module."""
    yield module_engine
    if module_engine.daemon.running:
        module_engine.thaw()
    else:
        module_engine.start()
    module_engine.remove_all_containers()


@pytest.fixture
def impatient_cri(request: pytest.FixtureRequest, node: Node, cri: Cri) -> Iterator[Cri]:
    """A client of a node that gives up a pull after a few seconds without a byte."""
    if node.is_containerd:
        yield cri
        return
    if ENDPOINT:
        pytest.skip("the pull timeout of this node is not known")
    engine: RealEngine = request.getfixturevalue("engine")
    start_server = request.getfixturevalue("start_server")
    server: CriServer = start_server(engine.for_another_service(), ["--image-pull-progress-deadline=5s"])
    with contextlib.closing(Cri(server.socket, cri.log_root)) as client:
        yield client


def start_privileged(pod: Pod, *command: str, **fields: Any) -> Container:
    """Start a container with all capabilities; skip the test where the host lacks some and the engine minds."""
    try:
        return pod.start(*command, **fields)
    except grpc.RpcError as error:
        if "unable to apply caps" in str(error.details()):
            pytest.skip("this host lacks capabilities that the engine gives to privileged containers")
        raise


def host_network() -> pb.LinuxSandboxSecurityContext:
    """Return the security context of a pod in the host's network."""
    return pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(network=pb.NODE))


@contextlib.contextmanager
def service_client(server: CriServer) -> Iterator[Cri]:
    """A client of a service that one test has for itself, on an engine that has the test images."""
    with contextlib.closing(Cri(server.socket, server.log_dir)) as client:
        client.images.update(IMAGES)
        yield client
