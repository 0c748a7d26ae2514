"""Fixtures: real engines, a registry, a pod network, and the service under test on top of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from tests import images
from tests.cni import CniNetwork
from tests.cri_server import CriClient, CriServer
from tests.engine_packages import RELEASES
from tests.engines import ContainerdNode, DockerEngine, DockerOptions, RealEngine, RegistryServer
from tests.processes import erase_abandoned

# fixture → the kind of engine that it is of, and how people call it
ENGINE_FIXTURES = {
    "docker_engine": (DockerEngine.kind, DockerEngine.title),
    "own_docker_engine": (DockerEngine.kind, DockerEngine.title),
    "containerd_node": (ContainerdNode.kind, ContainerdNode.title),
    "own_containerd_node": (ContainerdNode.kind, ContainerdNode.title),
}


def pytest_configure() -> None:
    """Keep gRPC from reacting to forks of this process, after which its channels may hang; no child uses it."""
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller choose the engines."""
    parser.addoption(
        "--engine",
        default="docker-20.10",
        help=f"comma-separated engines to run the engine tests on: {', '.join(RELEASES)}; "
        "with the suffix -store a Docker Engine has containerd's image store",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use an engine once for each chosen one."""
    if "engine_name" in metafunc.fixturenames:
        names = metafunc.config.getoption("--engine").split(",")
        metafunc.parametrize("engine_name", names, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use an engine, and leave out those that are of another kind of engine."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "engine_name" in names:
            item.add_marker("engine")
            name = str(item.callspec.params["engine_name"])  # type: ignore[attr-defined]
            for fixture, (kind, title) in ENGINE_FIXTURES.items():
                if fixture in names and not name.startswith(kind):
                    item.add_marker(pytest.mark.skip(reason=f"of {title}"))


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> None:
    """Remove what an earlier run that was killed has left."""
    erase_abandoned()


@pytest.fixture(scope="session")
def engine_name(request: pytest.FixtureRequest) -> str:
    """The engine of this pass."""
    return str(request.param)


@pytest.fixture(scope="session")
def engine(engine_name: str) -> Iterator[RealEngine]:
    """A running engine with the test images, shared by the tests of a session."""
    engine = start_engine(engine_name)
    yield engine
    engine.close()


@pytest.fixture
def own_engine(engine_name: str) -> Iterator[RealEngine]:
    """A running engine with the test images for one test alone, which may stop, freeze or kill it."""
    engine = start_engine(engine_name)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def docker_engine(engine: RealEngine) -> DockerEngine:
    """The shared engine, for tests that are of Docker Engine alone."""
    assert isinstance(engine, DockerEngine)
    return engine


@pytest.fixture
def own_docker_engine(own_engine: RealEngine) -> DockerEngine:
    """The test's own engine, for tests that are of Docker Engine alone."""
    assert isinstance(own_engine, DockerEngine)
    return own_engine


@pytest.fixture(scope="session")
def containerd_node(engine: RealEngine) -> ContainerdNode:
    """The shared engine, for tests that are of containerd alone."""
    assert isinstance(engine, ContainerdNode)
    return engine


@pytest.fixture
def own_containerd_node(own_engine: RealEngine) -> ContainerdNode:
    """The test's own engine, for tests that are of containerd alone."""
    assert isinstance(own_engine, ContainerdNode)
    return own_engine


def start_engine(name: str) -> RealEngine:
    """Start an engine and load the test images; the suffix -store chooses Docker's containerd image store."""
    engine: RealEngine
    if name.startswith("containerd-"):
        engine = ContainerdNode(name)
    else:
        options = DockerOptions(containerd_image_store=name.endswith("-store"))
        engine = DockerEngine(name.removesuffix("-store"), options)
    try:
        engine.start()
        images.load_all(engine)
    except BaseException:
        engine.close()
        raise
    return engine


@pytest.fixture(scope="session")
def registry() -> Iterator[RegistryServer]:
    """A registry on a loopback port."""
    server = RegistryServer()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def network() -> Iterator[CniNetwork]:
    """The pod network of the shared service."""
    network = CniNetwork()
    yield network
    network.close()


@pytest.fixture
def own_network() -> Iterator[CniNetwork]:
    """A pod network for one test alone."""
    network = CniNetwork()
    yield network
    network.close()


@pytest.fixture(scope="session")
def cri_server(engine: RealEngine, network: CniNetwork) -> Iterator[CriServer]:
    """The service on the shared engine; tests that stop it use `start_server`."""
    server = CriServer(engine, network)
    server.start()
    yield server
    server.close()


@pytest.fixture
def start_server(own_network: CniNetwork) -> Iterator[Callable[[RealEngine, Sequence[str]], CriServer]]:
    """A function that starts a service for one test alone, on an engine and with further flags."""
    servers: list[CriServer] = []

    def start(engine: RealEngine, flags: Sequence[str] = ()) -> CriServer:
        servers.append(CriServer(engine, own_network, flags))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def client(cri_server: CriServer) -> Iterator[CriClient]:
    """A client of the shared service; the pods that the test leaves are removed."""
    client = cri_server.client()
    before = {pod.id for pod in list_pods(client)}
    yield client
    for pod in list_pods(client):
        if pod.id not in before:
            client.remove_pod(pod.id)
    client.close()


def list_pods(client: CriClient) -> list[cri.PodSandbox]:
    """Return all pods of a service."""
    return list(client.runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=10).items)
