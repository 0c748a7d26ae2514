"""The pod network fails: runs are undone, stops are refused until they have worked, host-network pods go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, eventually
from tests.behaviour.conftest import OWN_SERVICE, host_network, service_client
from tests.behaviour.traces import traces
from tests.cni import PLUGIN_DIRECTORIES, CniNetwork
from tests.cri_server import CriServer
from tests.engines import RealEngine

pytestmark = OWN_SERVICE


@pytest.fixture
def breaks(own_network: CniNetwork) -> Path:
    """A folder where a file ADD or DEL makes that command of the network's last plugin fail."""
    return own_network.add_breakable_plugin()


@pytest.fixture
def server(own_engine: RealEngine, start_server: Callable[..., CriServer], breaks: Path) -> CriServer:
    """A service with that network."""
    return start_server(own_engine, [f"--cni-bin-dir={','.join([*PLUGIN_DIRECTORIES, str(breaks)])}"])


@pytest.fixture
def cri(server: CriServer) -> Iterator[Cri]:
    """A client of it."""
    with service_client(server) as client:
        yield client


def network_ready(cri: Cri) -> bool:
    """Return the condition NetworkReady."""
    return next(bool(item.status) for item in cri("Status").status.conditions if item.type == "NetworkReady")


@pytest.mark.behaviour("RUN-06", "RUN-07", "NET-13", "GEN-15")
def test_failed_add_is_undone_and_the_run_can_be_repeated(cri: Cri, server: CriServer, breaks: Path) -> None:
    config = cri.pod_config()
    (breaks / "ADD").touch()
    with pytest.raises(grpc.RpcError) as failure:
        cri.run_pod(config)
    assert "broken on purpose" in failure.value.details()
    assert not cri.pods()
    eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")
    (breaks / "ADD").unlink()
    cri.run_pod(config).remove()


@pytest.mark.behaviour("STP-04", "RMP-05", "NET-13")
def test_failed_del_is_an_error_until_it_works(cri: Cri, server: CriServer, breaks: Path) -> None:
    pod = cri.run_pod()
    (breaks / "DEL").touch()
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as failure:
            pod.stop()
        assert "broken on purpose" in failure.value.details()
        with pytest.raises(grpc.RpcError):
            cri("RemovePodSandbox", pod_sandbox_id=pod.id)
    assert pod.status().state == pb.SANDBOX_NOTREADY
    (breaks / "DEL").unlink()
    pod.remove()
    eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")


@pytest.mark.behaviour("RUN-06", "RUN-07", "STP-04")
def test_pod_that_could_not_be_undone_stays_listed_and_can_be_removed_later(
    cri: Cri, server: CriServer, breaks: Path
) -> None:
    config = cri.pod_config()
    for command in ("ADD", "DEL"):
        (breaks / command).touch()
    with pytest.raises(grpc.RpcError):
        cri.run_pod(config)
    for command in ("ADD", "DEL"):
        (breaks / command).unlink()
    listed = cri.pods()
    assert all(pod.state == pb.SANDBOX_NOTREADY for pod in listed)
    for pod in listed:
        cri("StopPodSandbox", pod_sandbox_id=pod.id)
        cri("RemovePodSandbox", pod_sandbox_id=pod.id)
    eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")
    cri.run_pod(config).remove()


@pytest.mark.behaviour("STA-13")
def test_network_comes_and_goes_with_its_configuration(cri: Cri, own_network: CniNetwork) -> None:
    path = own_network.conf_dir / "10-test.conflist"
    conflist = json.loads(path.read_text())
    assert network_ready(cri)
    path.unlink()
    eventually(lambda: network_ready(cri), lambda ready: not ready, "NetworkReady false", 10)
    with pytest.raises(grpc.RpcError):
        cri.run_pod()
    linux = pb.LinuxPodSandboxConfig(security_context=host_network())
    pod = cri.run_pod(cri.pod_config(linux=linux))
    assert pod.status().state == pb.SANDBOX_READY
    pod.remove()
    own_network.write_conflist("10-test.conflist", conflist)
    eventually(lambda: network_ready(cri), bool, "NetworkReady true", 10)
    cri.run_pod().remove()


@pytest.mark.behaviour("STP-04", "NET-13")
def test_pod_can_be_stopped_when_the_configuration_has_gone(
    cri: Cri, server: CriServer, own_network: CniNetwork
) -> None:
    pod = cri.run_pod()
    (own_network.conf_dir / "10-test.conflist").unlink()
    eventually(lambda: network_ready(cri), lambda ready: not ready, "NetworkReady false", 10)
    pod.remove()
    eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")
