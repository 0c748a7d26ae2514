"""Namespaces of pods and containers."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, eventually, host_pids, refused
from tests.behaviour.conftest import start_privileged

MAPPING = pb.IDMapping(container_id=0, host_id=100_000, length=65_536)


def sandbox_options(**options: object) -> pb.LinuxPodSandboxConfig:
    """Return the Linux part of a pod's config with these namespace options."""
    context = pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(**options))
    return pb.LinuxPodSandboxConfig(security_context=context)


def container_options(**options: object) -> pb.LinuxContainerConfig:
    """Return the Linux part of a container's config with these namespace options."""
    context = pb.LinuxContainerSecurityContext(namespace_options=pb.NamespaceOption(**options))
    return pb.LinuxContainerConfig(security_context=context)


def namespace_of(container: Container, kind: str) -> str:
    """Return the namespace of a container's main process as the host names it."""
    return os.readlink(f"/proc/{host_pids(container.id)[0]}/ns/{kind}")


@pytest.mark.behaviour("NSP-01", "SBS-03", "RCR-06")
@pytest.mark.parametrize(
    ("net", "pid", "ipc"),
    [
        (pb.POD, pb.CONTAINER, pb.POD),
        (pb.POD, pb.POD, pb.POD),
        (pb.NODE, pb.CONTAINER, pb.POD),
        (pb.NODE, pb.NODE, pb.NODE),
        (pb.POD, pb.NODE, pb.NODE),
    ],
)
def test_modes_are_echoed_and_hold(new_pod: Callable[..., Pod], net: int, pid: int, ipc: int) -> None:
    options = {"network": net, "pid": pid, "ipc": ipc}
    pod = new_pod(linux=sandbox_options(**options))
    echoed = pod.status().linux.namespaces.options
    assert (echoed.network, echoed.pid, echoed.ipc) == (net, pid, ipc)
    one, two = (pod.start(linux=container_options(**options)) for _ in range(2))
    for kind, mode in (("net", net), ("pid", pid), ("ipc", ipc)):
        spaces = [namespace_of(one, kind), namespace_of(two, kind)]
        host = os.readlink(f"/proc/self/ns/{kind}")
        assert (spaces[0] == host) == (mode == pb.NODE), kind
        assert (spaces[0] == spaces[1]) == (mode != pb.CONTAINER), kind


@pytest.mark.behaviour("NSP-02")
@pytest.mark.parametrize("mode", [pb.CONTAINER, pb.TARGET])
@pytest.mark.differs_from_containerd("it takes every mode but NODE for POD")
def test_network_of_a_container_or_target_is_refused(cri: Cri, mode: int) -> None:
    with refused():
        cri.run_pod(cri.pod_config(linux=sandbox_options(network=mode)))


@pytest.mark.behaviour("NSP-03", "NSP-02")
def test_process_one_is_the_containers_own_or_the_pods(new_pod: Callable[..., Pod]) -> None:
    pod = new_pod(linux=sandbox_options(pid=pb.POD))
    alone = pod.start("sleep", "3600", linux=container_options(pid=pb.CONTAINER))
    assert alone.sh("tr '\\0' ' ' </proc/1/cmdline") == "sleep 3600"
    shared = pod.start("sleep", "3601", linux=container_options(pid=pb.POD))
    assert "3601" not in shared.sh("tr '\\0' ' ' </proc/1/cmdline")
    assert "sleep 3601" in shared.sh("ps -o args")


@pytest.mark.behaviour("NSP-02")
@pytest.mark.parametrize("digits", [64, 13])
def test_target_mode_joins_another_container(new_pod: Callable[..., Pod], digits: int) -> None:
    pod = new_pod(linux=sandbox_options(pid=pb.CONTAINER))
    target = pod.start("sleep", "3602", linux=container_options(pid=pb.CONTAINER))
    debugger = pod.start("sleep", "3603", linux=container_options(pid=pb.TARGET, target_id=target.id[:digits]))
    assert "sleep 3602" in debugger.sh("ps -o args")
    assert namespace_of(target, "pid") == namespace_of(debugger, "pid")


@pytest.mark.behaviour("NSP-02")
@pytest.mark.parametrize("which", ["stopped", "of another pod", "unknown"])
def test_target_that_cannot_be_joined_is_refused(pod: Pod, new_pod: Callable[..., Pod], which: str) -> None:
    if which == "stopped":
        target = pod.run("true").id
    elif which == "unknown":
        target = "0" * 64
    else:
        target = new_pod().start().id
    with refused():
        pod.create(linux=container_options(pid=pb.TARGET, target_id=target))


@pytest.mark.behaviour("NSP-04")
def test_shared_memory_belongs_to_the_pod_or_the_host(new_pod: Callable[..., Pod]) -> None:
    pod = new_pod(linux=sandbox_options(ipc=pb.POD))
    one, two = (pod.start(linux=container_options(ipc=pb.POD)) for _ in range(2))
    one.sh("echo hello >/dev/shm/note")
    assert two.sh("cat /dev/shm/note") == "hello"
    assert not Path("/dev/shm/note").exists()
    assert one.sh("df -k /dev/shm | tail -1 | awk '{print $2}'") == "65536"


@pytest.mark.behaviour("NSP-04")
def test_hosts_shared_memory_is_seen_with_host_ipc(new_pod: Callable[..., Pod]) -> None:
    note = Path(f"/dev/shm/behaviour-{os.getpid()}")
    note.write_text("from the host")
    try:
        pod = new_pod(linux=sandbox_options(ipc=pb.NODE))
        assert pod.start(linux=container_options(ipc=pb.NODE)).sh(f"cat {note}") == "from the host"
    finally:
        note.unlink()


@pytest.mark.behaviour("NSP-05", "NET-07")
def test_host_network_pod_listens_on_the_host(new_pod: Callable[..., Pod]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pod = new_pod(
        linux=sandbox_options(network=pb.NODE),
        port_mappings=[pb.PortMapping(container_port=port, host_port=port, host_ip="127.0.0.1")],
    )
    assert pod.ip() == ""
    pod.start("sh", "-c", f"echo hello >/tmp/index.html && exec httpd -f -p 127.0.0.1:{port} -h /tmp")

    def greeting() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/index.html")
            return connection.getresponse().read()
        return b""

    assert eventually(greeting, bool, "an answer") == b"hello\n"


@pytest.mark.behaviour("NSP-11")
def test_loopback_is_up(pod: Pod) -> None:
    assert "UP" in pod.start().sh("ip addr show lo")


@pytest.mark.behaviour("NSP-09")
def test_pod_takes_the_security_context_of_kubelet(new_pod: Callable[..., Pod]) -> None:
    context = pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(pid=pb.CONTAINER),
        run_as_user=pb.Int64Value(value=1000),
        run_as_group=pb.Int64Value(value=2000),
        supplemental_groups=[3000, 4000],
        readonly_rootfs=True,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
    )
    pod = new_pod(linux=pb.LinuxPodSandboxConfig(security_context=context))
    (pid,) = host_pids(pod.id)[:1]
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split()[0] == "1000"
    assert status["Gid"].split()[0] == "2000"
    assert status["Seccomp"].strip() == "2"


@pytest.mark.behaviour("NSP-09", "CAP-04")
def test_privileged_container_needs_a_privileged_pod(pod: Pod, new_pod: Callable[..., Pod]) -> None:
    privileged = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    with refused():
        pod.create(linux=privileged)
    context = pb.LinuxSandboxSecurityContext(privileged=True)
    willing = new_pod(linux=pb.LinuxPodSandboxConfig(security_context=context))
    assert start_privileged(willing, linux=privileged).status().state == pb.CONTAINER_RUNNING


@pytest.mark.behaviour("NSP-06")
@pytest.mark.parametrize(
    "userns",
    [
        pb.UserNamespace(mode=pb.NODE, uids=[MAPPING], gids=[MAPPING]),
        pb.UserNamespace(mode=pb.POD),
        pb.UserNamespace(mode=pb.POD, uids=[MAPPING, MAPPING], gids=[MAPPING, MAPPING]),
        pb.UserNamespace(mode=pb.POD, uids=[MAPPING]),
        pb.UserNamespace(mode=pb.POD, uids=[pb.IDMapping(length=0)], gids=[pb.IDMapping(length=0)]),
        pb.UserNamespace(mode=pb.CONTAINER, uids=[MAPPING], gids=[MAPPING]),
        pb.UserNamespace(mode=pb.TARGET, uids=[MAPPING], gids=[MAPPING]),
    ],
    ids=["node with mappings", "no mappings", "two mappings", "no gids", "empty mapping", "container", "target"],
)
def test_wrong_user_namespace_is_refused(cri: Cri, userns: pb.UserNamespace) -> None:
    with refused():
        cri.run_pod(cri.pod_config(linux=sandbox_options(userns_options=userns)))


@pytest.mark.behaviour("NSP-06")
def test_user_namespace_of_the_node_is_none(new_pod: Callable[..., Pod]) -> None:
    userns = pb.UserNamespace(mode=pb.NODE)
    pod = new_pod(linux=sandbox_options(userns_options=userns))
    container = pod.start(linux=container_options(userns_options=userns))
    assert container.sh("cat /proc/self/uid_map").split()[:2] == ["0", "0"]


@pytest.mark.behaviour("NSP-07", "NSP-08")
def test_user_namespace_maps_as_asked_or_is_refused(
    new_pod: Callable[..., Pod], default_features: pb.RuntimeHandlerFeatures
) -> None:
    userns = pb.UserNamespace(mode=pb.POD, uids=[MAPPING], gids=[MAPPING])
    try:
        pod = new_pod(linux=sandbox_options(userns_options=userns))
        container = pod.start(linux=container_options(userns_options=userns))
    except grpc.RpcError as error:
        if default_features.user_namespaces:
            raise
        pytest.skip(f"no user namespaces here: {error.details()}")
    assert container.sh("cat /proc/self/uid_map").split() == ["0", "100000", "65536"]
    with refused():
        pod.create(linux=container_options())
