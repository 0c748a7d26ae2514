"""Ten pods that answer HTTP move from Docker to containerd and back: `make demo-migrate`, as root."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from functools import partial

from cri_dockerd_py.demo.report import Report
from tests import images
from tests.cni import CniNetwork
from tests.engines import ContainerdNode, DockerEngine
from tests.kubelet import AppPod, Kubelet
from tests.migration.asking import get
from tests.migration.both import MigratingNode, web_pod
from tests.migration.traffic import Traffic
from tests.processes import erase_abandoned, wait_until

PODS = 10
DOCKER, CONTAINERD = "docker-20.10", "containerd-1.6"


def main() -> int:
    """Walk through it; everything is private and goes at the end."""
    erase_abandoned()
    report = Report()
    with contextlib.ExitStack() as stack:
        node = _node(stack, report)
        kubelet = stack.enter_context(node.kubelet())
        pods = [web_pod(f"web-{number}") for number in range(PODS)]
        with report.step(f"{PODS} pods answer HTTP on Docker") as step:
            kubelet.add(*pods)
            for pod in pods:
                wait_until(partial(_answers, kubelet, pod), f"an answer of {pod.name}", 120)
            step.show(", ".join(f"{pod.name} {kubelet.address(pod)}" for pod in pods))
        with report.step("migrate plan --to containerd") as step:
            step.show(*node.run("migrate", "plan", "--to=containerd").stdout.rstrip().splitlines())
        _move(node, kubelet, pods, report, "run", "--to=containerd", "--settle=1")
        with report.step("migrate finish") as step:
            step.show(*node.run("migrate", "finish").stdout.rstrip().splitlines())
            step.show(f"containers on Docker: {len(node.on_docker())}")
        _move(node, kubelet, pods, report, "rollback")
        with report.step("status") as step:
            step.show(*node.run("status").stdout.rstrip().splitlines())
    print(f"done in {report.total_seconds():.0f} s; nothing is left behind")
    return 0


def _node(stack: contextlib.ExitStack, report: Report) -> MigratingNode:
    with report.step("private Docker Engine and containerd, and the service on both") as step:
        docker = DockerEngine(DOCKER)
        stack.callback(docker.close)
        docker.start()
        images.load_all(docker)
        containerd = ContainerdNode(CONTAINERD)
        stack.callback(containerd.close)
        containerd.start()
        network = CniNetwork()
        stack.callback(network.close)
        node = MigratingNode(docker, containerd, network)
        stack.callback(node.close)
        node.start()
        step.show(f"Docker {docker.version()}, containerd {containerd.version()}, CRI at {node.server.socket}")
    return node


def _answers(kubelet: Kubelet, pod: AppPod) -> bool:
    return kubelet.is_running(pod) and get(kubelet.address(pod)) is not None


def _move(node: MigratingNode, kubelet: Kubelet, pods: list[AppPod], report: Report, *words: str) -> None:
    """Run a migration with its own live picture, under clients that keep asking."""
    with report.step(f"migrate {' '.join(words)}, while a client asks each pod 20 times a second") as step:
        began = time.monotonic()
        with Traffic(kubelet, pods) as traffic:
            subprocess.run(node.command("migrate", *words), check=True)
        answers, longest_s = sum(traffic.answers.values()), max(traffic.down_s.values(), default=0)
        step.show(
            f"{answers} answers in {time.monotonic() - began:.0f} s",
            f"without an answer: at most {traffic.most_down} pod at a time, for at most {longest_s:.1f} s",
            f"images pulled: {len(kubelet.pulled)}",
        )


if __name__ == "__main__":
    sys.exit(main())
