"""Measure moving pods and their images from Docker to containerd, and what the same takes by other means.

python -m tests.bench.moves [--engines docker-28 containerd-2.1]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cri_dockerd_py.backends.containerd.engine import ContainerdEngine
from cri_dockerd_py.backends.docker.engine import connect
from cri_dockerd_py.backends.image_transfer import CopyTransfer
from tests import images
from tests.backends.conftest import containerd_options, docker_options
from tests.backends.containerd.layered import random_tars
from tests.backends.test_image_transfer import docker_archive
from tests.cni import CniNetwork
from tests.engines import ContainerdNode, DockerEngine
from tests.kubelet import Kubelet
from tests.migration.both import MigratingNode, started, web_pod
from tests.processes import erase_abandoned, wait_until

PODS = 5
SETTLE_S = 1.0
RELIST_S = 0.02
LAYERS, LAYER_BYTES = 5, 40_000_000
TURNS = 3


def main() -> None:
    """Print a line for each figure, and the ratios that are aimed at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs=2, default=["docker-28", "containerd-2.1"], metavar=("DOCKER", "CONTAINERD"))
    docker_name, containerd_name = parser.parse_args().engines
    erase_abandoned()
    with both(docker_name, containerd_name) as node:
        with Kubelet(node.server.socket, node.kubelet_dir, relist_s=RELIST_S) as kubelet:
            moved, stopped, begun = pods(node, kubelet)
        alone = stopped + begun
        print(f"move of a pod: {moved:.2f} s; its stop {stopped:.2f} s, its start on the target {begun:.2f} s")
        print(f"ratio {moved / alone:.2f} (goal: at most 1.3); load average {os.getloadavg()[0]:.1f}")
        ours, theirs = copies(node)
        megabytes = LAYERS * LAYER_BYTES / 1e6
        print(f"copy of an image: {megabytes / ours:.0f} MB/s; docker save | ctr import: {megabytes / theirs:.0f} MB/s")
        print(f"ratio {ours / theirs:.2f} (goal: at most 0.8); load average {os.getloadavg()[0]:.1f}")


@contextlib.contextmanager
def both(docker_name: str, containerd_name: str) -> Iterator[MigratingNode]:
    """The service on two engines that have the test images."""
    with contextlib.ExitStack() as stack:
        docker, containerd, network = DockerEngine(docker_name), ContainerdNode(containerd_name), CniNetwork()
        for part in (network, containerd, docker):
            stack.callback(part.close)
        for engine in (docker, containerd):
            engine.start()
            images.load_all(engine)
        node = MigratingNode(docker, containerd, network)
        stack.callback(node.close)
        node.start()
        yield node


def pods(node: MigratingNode, kubelet: Kubelet) -> tuple[float, float, float]:
    """Return medians in seconds: of a move without its settling, of a pod's stop at the source, of its next start."""
    moving = started(kubelet, [web_pod(f"moved-{number}") for number in range(PODS)])
    staying = started(kubelet, [web_pod(f"alone-{number}") for number in range(PODS)])
    ended = node.migrate("run", "--to=containerd", f"--settle={SETTLE_S}", "--pod=default/moved-*")
    moved = [(move["ended_at_ns"] - move["began_at_ns"]) / 1e9 - SETTLE_S for move in ended["moves"]]
    assert len(moved) == len(moving)
    for pod in staying:
        kubelet.pods.pop(pod.uid)
    wait_until(lambda: not kubelet.busy, "the end of what kubelet does", 30)
    stopped = [timed(lambda pod=pod: kubelet.stop(pod)) for pod in staying]
    for pod in moving:
        kubelet.delete(pod)
    wait_until(lambda: not kubelet.pods, "the end of all pods", 120)
    node.migrate("run", "--to=containerd")  # new pods go to the target
    begun = [timed(lambda pod=pod: kubelet.begin(pod)) for pod in staying]
    for pod in staying:
        kubelet.stop(pod)
    return statistics.median(moved), statistics.median(stopped), statistics.median(begun)


def copies(node: MigratingNode) -> tuple[float, float]:
    """Return medians in seconds of the copy of an image: by this project, and by the engines' own tools."""
    name = f"bench/{secrets.token_hex(4)}:1"
    archive, _ = docker_archive(random_tars(LAYERS, LAYER_BYTES), name)
    node.docker.client.api.load_image(archive)
    tools = (shutil.which("docker", path=node.docker.binaries.search_path), node.containerd.tool)
    save = shlex.join([str(tools[0]), "-H", node.docker.endpoint, "save", name])
    load = shlex.join([str(tools[1]), "-a", str(node.containerd.socket), "-n", "k8s.io", "images", "import", "-"])
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(TURNS):
            ours.append(asyncio.run(copy(node, f"docker.io/{name}", Path(directory))))
            forget(node, name)
            theirs.append(timed(lambda: subprocess.check_output(f"{save} | {load}", shell=True)))
            forget(node, name)
    return statistics.median(ours), statistics.median(theirs)


async def copy(node: MigratingNode, name: str, directory: Path) -> float:
    """Copy an image, and return the seconds that it took."""
    docker = connect(docker_options(node.docker, directory))
    containerd = ContainerdEngine(containerd_options(node.containerd, directory, namespace="k8s.io"))
    try:
        record = await docker.engine.images.inspect(name)
        assert record is not None
        began = time.monotonic()
        await CopyTransfer(docker.image_source, containerd.image_sink).copy(record, lambda _: None)
        return time.monotonic() - began
    finally:
        await docker.close()
        await containerd.close()


def forget(node: MigratingNode, name: str) -> None:
    """Remove an image from containerd, and what it alone held."""
    rows = [line.split() for line in node.containerd.ctr("images", "ls").splitlines()[1:]]
    (digest,) = {row[2] for row in rows if row[0] == f"docker.io/{name}"}
    node.containerd.ctr("images", "rm", "--sync", *(row[0] for row in rows if row[2] == digest))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that work takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
