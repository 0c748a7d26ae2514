"""Pods of containerd's own CRI plugin, taken over once it is off; pods side by side with it; pods handed over to it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.pause.image import pause_image
from tests.behaviour.client import Container, Cri, Pod, eventually, host_pids
from tests.behaviour.conftest import IMAGES, OWN_SERVICE, service_client
from tests.behaviour.registries import push
from tests.behaviour.test_network import SERVE, fetch
from tests.behaviour.traces import traces
from tests.cni import CniNetwork, free_host_port
from tests.cri_server import CriServer
from tests.engines import ContainerdNode, RegistryServer
from tests.engines.cri_plugin import plugin_config
from tests.processes import erase, private_directory

pytestmark = OWN_SERVICE
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
CNI_RESULTS = Path("/var/lib/cni/results")
POD_FIELDS = ("id", "metadata", "state", "created_at", "network", "labels", "annotations", "runtime_handler")
CONTAINER_FIELDS = (
    "id metadata state created_at started_at finished_at exit_code image labels annotations mounts log_path"
).split()
StartServer = Callable[..., CriServer]


@dataclass(slots=True)
class Plugin:
    """The plugin of a containerd that a test has for itself."""

    node: ContainerdNode
    config: str
    cri: Cri
    outside: list[Path] = field(default_factory=list)

    def switch(self, on: bool) -> None:
        """Start containerd again with the plugin on or off."""
        self.node.containerd.configure(self.config if on else None)
        self.node.restart()
        if on:
            eventually(self._is_ready, bool, "the plugin being ready")

    def run_pod(self, **fields: Any) -> Pod:
        """Run a pod."""
        pod = self.cri.run_pod(self.cri.pod_config(**fields))
        self.remember(pod)
        return pod

    def remember(self, pod: Pod) -> None:
        """Remember what a pod of the plugin has outside containerd's own directories."""
        info = json.loads(self.cri("PodSandboxStatus", pod_sandbox_id=pod.id, verbose=True).info["info"])
        spaces = {space["type"]: space.get("path", "") for space in info["runtimeSpec"]["linux"]["namespaces"]}
        self.outside += [Path(spaces["network"]), *CNI_RESULTS.glob(f"*-{pod.id}-*")]

    def left(self) -> list[Path]:
        """Return what is still there of that."""
        return [path for path in self.outside if path.exists()]

    def _is_ready(self) -> bool:
        with contextlib.suppress(grpc.RpcError):
            return all(condition.status for condition in self.cri("Status").status.conditions)
        return False


@pytest.fixture
def plugin(own_containerd_node: ContainerdNode, own_network: CniNetwork, registry: RegistryServer) -> Iterator[Plugin]:
    """The plugin, switched on; what it writes outside containerd's directories is removed in the end."""
    node = own_containerd_node
    pause = push(registry.address, "pause", "1", pause_image(platform.machine()))
    log_root = private_directory("l")
    with contextlib.closing(Cri(node.socket, log_root)) as cri:
        cri.images.update(IMAGES)
        plugin = Plugin(node, plugin_config(pause, own_network), cri)
        plugin.switch(on=True)
        yield plugin
    node.remove_all_containers()
    plugin.switch(on=False)
    for path in plugin.left():
        subprocess.run(["umount", path], capture_output=True)
        path.unlink()
    erase(log_root)


def fields_of(status: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return some fields of a status."""
    return {name: getattr(status, name) for name in names}


def known_to(cri: Cri, theirs: Pod | Container) -> Any:
    """Return a pod or container as an object of another server."""
    if isinstance(theirs, Pod):
        return replace(theirs, cri=cri)
    return replace(theirs, cri=cri, pod=replace(theirs.pod, cri=cri))


def numbers_in(container: Container) -> list[int]:
    """Return the numbers that a counting container has logged."""
    return [int(entry.content) for entry in container.log()]


@pytest.mark.behaviour("GEN-12", "LSB-09", "LCT-08")
def test_pods_of_the_plugin_are_taken_over_while_they_run(
    plugin: Plugin, own_network: CniNetwork, start_server: StartServer
) -> None:
    mapping = pb.PortMapping(container_port=80, host_port=free_host_port())
    pod = plugin.run_pod(labels={"app": "web"}, annotations={"a": "b"}, port_mappings=[mapping])
    web = pod.start("sh", "-c", SERVE.format(port=80), labels={"c": "d"}, annotations={"e": "f"})
    counting, dead, created = pod.start("sh", "-c", COUNT), pod.run("sh", "-c", "exit 3"), pod.create()
    dying = pod.start("sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 5")
    containers = [web, counting, dead, created, dying]
    pod_before = fields_of(pod.status(), POD_FIELDS)
    before = [fields_of(container.status(), CONTAINER_FIELDS) for container in containers]
    ip, pids = pod.ip(), host_pids(web.id)
    assert pids
    plugin.node.stop()
    dying_root = f"/proc/{host_pids(dying.id)[0]}/root/tmp/end"
    Path(dying_root).touch()
    eventually(lambda: host_pids(dying.id), lambda found: not found, "its end")
    plugin.switch(on=False)

    server = start_server(plugin.node)
    with service_client(server) as cri:
        pod = known_to(cri, pod)
        web, counting, dead, created, dying = (known_to(cri, container) for container in containers)
        assert [item.id for item in eventually(cri.pods, bool, "the pod in the list")] == [pod.id]
        assert fields_of(pod.status(), POD_FIELDS) == pod_before
        assert host_pids(web.id) == pids
        for container, theirs in zip((web, counting, dead, created), before, strict=False):
            assert fields_of(container.status(), CONTAINER_FIELDS) == theirs
        ended = dying.status()
        assert ended.state == pb.CONTAINER_EXITED
        assert ended.exit_code in (5, 255)  # containerd from 1.7 on forgets what ended while it was down
        assert fetch(ip, 80) == b"served\n"
        assert fetch("127.0.0.1", mapping.host_port) == b"served\n"
        assert web.exec("echo", "ours").stdout == b"ours\n"
        assert cri("ContainerStats", container_id=web.id).stats.memory.working_set_bytes.value
        seen = len(numbers_in(counting))
        eventually(lambda: len(numbers_in(counting)), lambda count: count > seen + 20, "more lines")
        created.start()
        assert created.status().state == pb.CONTAINER_RUNNING
        mine = pod.start("sh", "-c", "wget -q -O - http://127.0.0.1/index.html; sleep 1000")
        assert eventually(mine.output, bool, "a page over the shared loopback") == "served"

        counting.stop()
        numbers = numbers_in(counting)
        assert numbers == list(range(1, len(numbers) + 1)), "log lines were lost or doubled"
        server.restart()
        assert fields_of(eventually(pod.status, bool, "the pod"), POD_FIELDS) == pod_before
        dead.remove()
        assert not cri.containers(id=dead.id)
        pod.stop()
        assert pod.status().state == pb.SANDBOX_NOTREADY
        assert ip not in own_network.leases()
        pod.remove()
        assert not cri.pods()
        eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")
        assert not plugin.left()


@pytest.mark.behaviour("GEN-12", "STP-04")
def test_pod_of_the_plugin_whose_sandbox_has_died_is_cleaned_up(plugin: Plugin, start_server: StartServer) -> None:
    pod = plugin.run_pod()
    pod.start()
    plugin.node.stop()
    for pid in host_pids(pod.id):
        os.kill(pid, signal.SIGKILL)
    plugin.switch(on=False)
    server = start_server(plugin.node)
    with service_client(server) as cri:
        pod = known_to(cri, pod)
        eventually(lambda: pod.status().state, lambda state: state == pb.SANDBOX_NOTREADY, "NOTREADY")
        pod.remove()
        eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")
        assert not plugin.left()


@pytest.mark.behaviour("GEN-12")
def test_plugin_and_service_leave_each_others_pods_alone(plugin: Plugin, start_server: StartServer) -> None:
    server = start_server(plugin.node)
    with service_client(server) as cri:
        theirs, ours = plugin.run_pod(), cri.run_pod()
        containers = [theirs.start("sh", "-c", COUNT), ours.start("sh", "-c", COUNT)]
        pids = [host_pids(item.id)[0] for item in (theirs, ours, *containers)]
        plugin.node.kill()
        server.kill()
        plugin.switch(on=True)
        server.start()
        eventually(cri.pods, bool, "our pod in the list")
        eventually(plugin.cri.pods, bool, "their pod in the list")

        assert [item.id for item in cri.pods()] == [ours.id]
        assert [item.id for item in plugin.cri.pods()] == [theirs.id]
        assert [item.id for item in cri.containers()] == [containers[1].id]
        assert [item.id for item in plugin.cri.containers()] == [containers[0].id]
        assert [host_pids(item.id)[0] for item in (theirs, ours, *containers)] == pids
        for pod, container in ((theirs, containers[0]), (ours, containers[1])):
            assert pod.status().state == pb.SANDBOX_READY
            assert container.exec("echo", "alive").stdout == b"alive\n"
            seen = len(numbers_in(container))
            eventually(lambda c=container: len(numbers_in(c)), lambda count, s=seen: count > s + 10, "more lines")
        numbers = numbers_in(containers[1])
        assert numbers == list(range(1, len(numbers) + 1)), "log lines were lost or doubled"
        assert "CRI plugin" in server.daemon.log.read_text(), "nobody was told that a plugin is on"
        for pod in (theirs, ours):
            pod.remove()


@pytest.mark.behaviour("GEN-12")
def test_a_pod_whose_network_namespace_is_gone_is_handed_over_as_well(
    plugin: Plugin, start_server: StartServer
) -> None:
    """As all are after a reboot, until kubelet has removed them."""
    plugin.switch(on=False)
    server = start_server(plugin.node)
    with service_client(server) as cri:
        pods = [cri.run_pod(), cri.run_pod()]
        pids = host_pids(pods[0].id)
    server.stop()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    (pinned,) = Path("/run/netns").glob(f"cri-*-{pods[0].id}")
    subprocess.run(["umount", pinned], check=True)
    pinned.unlink()

    told = server.run("handover")
    assert all(pod.id in told for pod in pods)
    plugin.switch(on=True)
    for pod in pods:
        plugin.remember(pod)
        known_to(plugin.cri, pod).remove()
    assert len(plugin.outside) > 0
    assert not plugin.left()


@pytest.mark.behaviour("GEN-12")
def test_pods_are_handed_over_to_the_plugin_while_they_run(
    plugin: Plugin, own_network: CniNetwork, start_server: StartServer
) -> None:
    plugin.switch(on=False)
    server = start_server(plugin.node)
    mapping = pb.PortMapping(container_port=80, host_port=free_host_port())
    with service_client(server) as cri:
        pod = cri.run_pod(cri.pod_config(labels={"app": "web"}, annotations={"a": "b"}, port_mappings=[mapping]))
        web = pod.start("sh", "-c", SERVE.format(port=80), labels={"c": "d"}, annotations={"e": "f"})
        counting, dead, created = pod.start("sh", "-c", COUNT), pod.run("sh", "-c", "exit 3"), pod.create()
        containers = [web, counting, dead, created]
        pod_before = fields_of(pod.status(), POD_FIELDS)
        before = [fields_of(container.status(), CONTAINER_FIELDS) for container in containers]
        ip, pids = pod.ip(), host_pids(web.id)
    server.stop()
    assert pod.id in server.run("handover")
    plugin.switch(on=True)
    plugin.remember(pod)

    pod = known_to(plugin.cri, pod)
    web, counting, dead, created = (known_to(plugin.cri, container) for container in containers)
    assert [item.id for item in plugin.cri.pods()] == [pod.id]
    assert fields_of(pod.status(), POD_FIELDS) == pod_before
    assert host_pids(web.id) == pids
    for container, ours in zip((web, counting, dead, created), before, strict=True):
        assert fields_of(container.status(), CONTAINER_FIELDS) == ours
    assert fetch("127.0.0.1", mapping.host_port) == b"served\n"
    assert web.exec("echo", "theirs").stdout == b"theirs\n"
    mine = pod.start("sh", "-c", "wget -q -O - http://127.0.0.1/index.html; sleep 1000")
    assert eventually(mine.output, bool, "a page over the shared loopback") == "served"
    seen = len(numbers_in(counting))
    eventually(lambda: len(numbers_in(counting)), lambda count: count > seen + 20, "more lines")
    counting.stop()
    numbers = numbers_in(counting)
    assert numbers == list(range(1, len(numbers) + 1)), "log lines were lost or doubled"
    server.start()
    with service_client(server) as cri:
        assert not cri.pods()
    assert pod.status().state == pb.SANDBOX_READY
    pod.remove()
    assert ip not in own_network.leases()
    assert not plugin.left()
    eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")
