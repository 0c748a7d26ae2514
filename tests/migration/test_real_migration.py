"""Pods moved from real Docker to real containerd and back, under clients that keep asking."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests import images
from tests.cni import CniNetwork
from tests.engines import RegistryServer
from tests.kubelet import AppPod
from tests.migration.asking import get
from tests.migration.both import QUICK, MigratingNode, kept, logs, started, web_pod
from tests.migration.traffic import Traffic
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(900)
PODS = 10


@pytest.mark.behaviour("RCR-03", "RCR-12", "RCR-17", "RCR-18", "RCR-30")
def test_ten_pods_move_and_come_back(node: MigratingNode, own_network: CniNetwork) -> None:
    with node.kubelet() as kubelet:
        pods = started(kubelet, [web_pod(f"web-{number}") for number in range(PODS)])
        assert {engine for pod in pods for engine in node.engines_of(pod)} == {"docker"}
        assert node.ask("migrate", "plan", "--to=containerd")["copy_bytes"] > 0

        with Traffic(kubelet, pods) as traffic:
            ended = node.migrate("run", "--to=containerd", "--max-unavailable=1", "--settle=2", "--timeout=60")
        assert [move["state"] for move in ended["moves"]] == ["done"] * PODS
        assert {engine for pod in pods for engine in node.engines_of(pod)} == {"containerd"}
        assert (traffic.most_down, traffic.wrong) == (1, [])
        assert min(traffic.answers.values()) > 0
        assert kubelet.pulled == []
        for pod in pods:
            seen = kubelet.status(pod)
            assert [sandbox.metadata.attempt for sandbox in seen.sandboxes] == [1, 0]
            assert [container.metadata.attempt for container in seen.containers] == [1, 0]
            assert (kept(node, pod, "starts"), kept(node, pod, "hooks")) == ("2\n", "pre-stop\n")
            assert list(logs(node, pod)) == ["0.log", "1.log"]
            first = logs(node, pod)["0.log"]
            assert "started 1" in first
            assert first.rstrip().endswith("stopping")
            assert "started 2" in logs(node, pod)["1.log"]

        report = node.ask("migrate", "finish")
        assert (report["complete"], report["buried"]) == (True, PODS), report
        assert node.on_docker() == []
        addresses = {kubelet.address(pod) for pod in pods}
        assert sorted(own_network.leases()) == sorted(addresses)
        for pod in pods:
            old = kubelet.status(pod).containers[1]
            assert (old.exit_code, old.reason) == (0, "Completed")
            assert Path(old.log_path).read_text()

        with Traffic(kubelet, pods) as traffic:
            ended = node.migrate("rollback", timeout=400)
        assert [move["state"] for move in ended["moves"]] == ["done"] * PODS
        assert {engine for pod in pods for engine in node.engines_of(pod)} == {"docker"}
        assert traffic.most_down == 1
        assert kubelet.pulled == []
        assert {kept(node, pod, "starts") for pod in pods} == {"3\n"}
    assert own_network.leases() == []


def test_host_ports_move_with_their_pods(node: MigratingNode) -> None:
    port = 20000 + (node.docker.daemon.pid % 10000)
    with node.kubelet() as kubelet:
        (pod,) = started(kubelet, [web_pod("published", host_ports={port: 8080})])
        wait_until(lambda: get("127.0.0.1", port) == "published\n", "an answer on the host port", 20)
        node.migrate("run", "--to=containerd", *QUICK)
        assert node.engines_of(pod) == {"containerd"}
        wait_until(lambda: get("127.0.0.1", port) == "published\n", "an answer on the host port", 20)


def test_a_pod_that_fails_on_the_target_is_brought_back(node: MigratingNode) -> None:
    with node.kubelet() as kubelet:
        pods = started(kubelet, [web_pod("good"), web_pod("picky"), web_pod("unmoved")])
        kubelet.pods[pods[1].uid] = refusing(pods[1])
        done = node.run("migrate", "run", "--to=containerd", "--output=json", "--last=default/unmoved", *QUICK)
        assert done.returncode == 3
        status = node.ask("migrate", "status")
        assert {move["pod"]: move["state"] for move in status["moves"]} == {
            "default/good": "done",
            "default/picky": "returned",
            "default/unmoved": "planned",
        }
        assert "default/picky: container web ended with 7" in status["reason"]
        assert [node.engines_of(pod) for pod in pods] == [{"containerd"}, {"docker"}, {"docker"}]
        wait_until(lambda: kubelet.is_running(pods[1]), "the pod running again", 60)


def refusing(pod: AppPod) -> AppPod:
    """Return the pod with a program that ends at once where it has the files of a sandbox on containerd."""
    (container,) = pod.containers
    script = f"grep -q 'containerd/sandboxes/.* /etc/hosts ' /proc/self/mountinfo && exit 7; {container.command[2]}"
    return replace(pod, containers=(replace(container, command=("sh", "-c", script)),))


def test_pods_that_would_not_come_back_stay(node: MigratingNode) -> None:
    with node.kubelet() as kubelet:
        pods = started(
            kubelet,
            [
                web_pod("web"),
                web_pod("once", labels={"job-name": "once"}, restart_policy="OnFailure"),
                web_pod("bare", labels={}, restart_policy="Never"),
            ],
        )
        ended = node.migrate("run", "--to=containerd", *QUICK)
        assert [move["pod"] for move in ended["moves"]] == ["default/web"]
        assert [node.engines_of(pod) for pod in pods] == [{"containerd"}, {"docker"}, {"docker"}]
        assert all(kubelet.is_running(pod) for pod in pods)
        report = node.ask("migrate", "finish")
        assert not report["complete"]
        assert {item["name"].split()[0] for item in report["leftovers"]} == {"default/once", "default/bare"}


def test_images_come_first_and_alone_if_wanted(node: MigratingNode) -> None:
    with node.kubelet() as kubelet:
        (pod,) = started(kubelet, [web_pod("web")])
        assert node.run("migrate", "images", "--to=containerd").returncode == 0
        plan = node.ask("migrate", "plan", "--to=containerd")
        assert plan["copy_bytes"] == 0
        assert node.engines_of(pod) == {"docker"}
        assert (
            images.BUSYBOX
            in subprocess.run(
                ["ctr", "-a", str(node.containerd.socket), "-n", node.containerd.namespace, "images", "ls", "-q"],
                capture_output=True,
                text=True,
            ).stdout
        )


@pytest.mark.behaviour("IMG-02", "IMG-67")
@pytest.mark.usefixtures("_own_store")
def test_a_digest_is_found_on_both_engines_without_the_registry(node: MigratingNode) -> None:
    registry = RegistryServer()
    registry.start()
    try:
        reference = f"{registry.address}/moved:1"
        node.docker.push(images.BUSYBOX, reference)
        digests = node.docker.client.images.get(images.BUSYBOX).attrs["RepoDigests"]
    finally:
        registry.close()
    (by_digest,) = [digest for digest in digests if digest.startswith(registry.address)]
    with node.kubelet() as kubelet:
        (pod,) = started(kubelet, [web_pod("web", image=by_digest)])
        node.migrate("run", "--to=containerd", *QUICK)
        assert (node.engines_of(pod), kubelet.pulled) == ({"containerd"}, [])

        assert node.ask("migrate", "finish")["complete"]
        for tag in (reference, images.BUSYBOX):
            node.docker.untag(tag)
        assert not node.docker.holds(kubelet.status(pod).containers[0].image_id)
        node.migrate("rollback")
        assert (node.engines_of(pod), kubelet.pulled) == ({"docker"}, [])
        # Docker itself knows no digest of an image that was loaded; the service does, also without containerd.
        node.containerd.stop()
        node.server.daemon.command.append("--backend=docker")
        node.server.restart()
        try:
            request = pb.ImageStatusRequest(image=pb.ImageSpec(image=by_digest))
            found = kubelet.images.ImageStatus(request, timeout=30, wait_for_ready=True)
            assert by_digest in found.image.repo_digests
        finally:
            node.containerd.start()
            images.load_all(node.docker)
