"""What goes wrong while real pods move: the service is killed, engines are restarted, a disk is full."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.kubelet import AppPod, Kubelet
from tests.migration.both import MigratingNode, kept, started, web_pod
from tests.migration.traffic import Traffic
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(1500)
PODS = 5  # at least
#: How often the service is killed; more, for those who have the time.
KILLS = int(os.environ.get("CRI_TEST_KILLS", "5"))
LONGEST_PAUSE_S = 2.5


class Watcher:
    """Looks all the time whether a pod is on both engines."""

    def __init__(self, node: MigratingNode, pods: list[AppPod]) -> None:
        self._node = node
        self._pods = pods
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.on_both: list[str] = []
        self.looks = 0

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            for pod in self._pods:
                self.looks += 1
                if len(self._node.engines_of(pod)) > 1:
                    self.on_both.append(pod.name)


def finish_on(node: MigratingNode, kubelet: Kubelet, pods: list[AppPod], engine: str) -> None:
    """Wait for the end of the migration, and see that all pods run on the engine, made anew only once."""
    done = node.run("migrate", "status", "--watch", timeout=600)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}\n{node.server.daemon.log_tail(60)}"
    assert [node.engines_of(pod) for pod in pods] == [{engine}] * len(pods)
    assert all(kubelet.is_running(pod) for pod in pods)
    assert {kept(node, pod, "starts") for pod in pods} == {"2\n"}
    assert kubelet.pulled == []


@pytest.mark.behaviour("RCR-30", "RCR-12")
def test_a_service_that_is_killed_at_any_moment_moves_every_pod_once(node: MigratingNode) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with node.kubelet() as kubelet:
        pods = started(kubelet, [web_pod(f"web-{number}") for number in range(max(PODS, KILLS // 2))])
        with Traffic(kubelet, pods) as traffic, Watcher(node, pods) as watcher:
            assert node.run("migrate", "run", "--to=containerd", "--detach", "--settle=5").returncode == 0
            landed = 0
            for _ in range(KILLS):
                time.sleep(chance.uniform(0, LONGEST_PAUSE_S))
                landed += not node.ask("migrate", "status")["ended"]
                node.server.restart()
            print(f"{landed} of {KILLS} kills came before the end")
            assert landed > 1
            finish_on(node, kubelet, pods, "containerd")
        assert traffic.wrong == []
        assert (watcher.on_both, watcher.looks > 0) == ([], True)
        assert node.ask("migrate", "finish")["complete"]
        assert node.on_docker() == []


@pytest.mark.parametrize("which", ["docker", "containerd"])
def test_an_engine_that_is_restarted_in_the_middle_is_waited_for(node: MigratingNode, which: str) -> None:
    engine = {"docker": node.docker, "containerd": node.containerd}[which]
    with node.kubelet() as kubelet:
        pods = started(kubelet, [web_pod(f"web-{number}") for number in range(4)])
        assert node.run("migrate", "run", "--to=containerd", "--detach", "--settle=5").returncode == 0
        wait_until(lambda: moves_in(node, "settling") >= 1, "the first pod on the target", 120)
        engine.kill()
        try:
            wait_until(lambda: bool(node.ask("migrate", "status")["waiting"]), "waiting for the engine", 60)
        finally:
            engine.start()
        finish_on(node, kubelet, pods, "containerd")


@pytest.mark.parametrize(("state", "service_first"), [("leaving", False), ("settling", True)])
@pytest.mark.behaviour("RCR-30", "RCR-17")
def test_a_reboot_in_the_middle_is_gone_on_from(own_node: MigratingNode, state: str, service_first: bool) -> None:
    node = own_node
    with node.kubelet() as kubelet:
        pods = started(kubelet, [web_pod(f"web-{number}") for number in range(3)])
        configs = dict(kubelet.pods)
        if state == "leaving":
            kubelet.pods.clear()  # so that none arrives before
        assert node.run("migrate", "run", "--to=containerd", "--detach", "--settle=5").returncode == 0
        with Watcher(node, pods) as watcher:
            wait_until(lambda: moves_in(node, state) == 1, f"a pod that is {state}", 120)
        assert watcher.on_both == []
        node.power_off()
        kubelet.pods.update(configs)
        node.power_on(service_first=service_first)
        with Watcher(node, pods) as watcher:
            done = node.run("migrate", "status", "--watch", timeout=600)
            assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}\n{node.server.daemon.log_tail(60)}"
            for pod in pods:
                wait_until(partial(kubelet.is_running, pod), f"{pod.name} running; {kubelet.events}", 120)
        assert (watcher.on_both, watcher.looks > 0) == ([], True)
        assert [node.engines_of(pod) for pod in pods] == [{"containerd"}] * len(pods)
        assert (len(node.ask("migrate", "status")["moves"]), kubelet.pulled) == (len(pods), [])
        assert node.ask("migrate", "finish")["complete"]
        assert node.on_docker() == []
        assert sorted(node.network.leases()) == sorted(kubelet.address(pod) for pod in pods)


def moves_in(node: MigratingNode, state: str) -> int:
    return sum(move["state"] == state for move in node.ask("migrate", "status")["moves"])


def test_without_kubelet_nothing_is_taken_down(node: MigratingNode) -> None:
    with node.kubelet() as kubelet:
        (pod,) = started(kubelet, [web_pod("web")])
        config = kubelet.pods.pop(pod.uid)
        done = node.run("migrate", "run", "--to=containerd", "--settle=1", "--timeout=2", "--output=json")
        assert done.returncode == 3
        assert "kubelet has not made it anew" in done.stdout.splitlines()[-1]
        assert node.engines_of(pod) == {"docker"}
        kubelet.pods[pod.uid] = config
        assert kubelet.is_running(pod)
        assert kept(node, pod, "starts") == "1\n"


@pytest.fixture
def full_disk(node: MigratingNode) -> Iterator[Callable[[], None]]:
    """A function that mounts a small file system over containerd's content; it is taken away again."""
    store = Path(node.containerd.directory) / "c-root" / "io.containerd.snapshotter.v1.overlayfs"
    mounted: list[Path] = []

    def fill() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(store)], check=True)
        mounted.append(store)

    yield fill
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.usefixtures("_own_store")
def test_a_full_disk_is_told_before_anything_moves(node: MigratingNode, full_disk: Callable[[], None]) -> None:
    with node.kubelet() as kubelet:
        (pod,) = started(kubelet, [web_pod("web")])
        full_disk()
        done = node.run("migrate", "run", "--to=containerd", "--output=json")
        assert done.returncode == 3
        assert "are free there: make room" in done.stdout.splitlines()[-1]
        status = node.ask("status")
        assert status["default_engine"] == "docker"
        assert node.engines_of(pod) == {"docker"}


@pytest.fixture
def few_files(node: MigratingNode) -> Iterator[Path]:
    """A file system over containerd's content that has room for many bytes in few files."""
    store = Path(node.containerd.directory) / "c-root" / "io.containerd.content.v1.content"
    (store / "ingest").mkdir(parents=True, exist_ok=True)
    names = [entry.name for entry in store.iterdir()]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,nr_inodes=10", "tmpfs", str(store)], check=True)
    for name in names:
        (store / name).mkdir()
    yield store
    for name in node.containerd.ctr("images", "ls", "--quiet").split():
        node.containerd.ctr("images", "rm", "--sync", name)
    subprocess.run(["umount", "-l", str(store)], check=True)


@pytest.mark.usefixtures("_own_store")
def test_a_disk_that_is_full_in_the_middle_stops_it_and_it_is_resumed(node: MigratingNode, few_files: Path) -> None:
    with node.kubelet() as kubelet:
        (pod,) = started(kubelet, [web_pod("web")])
        done = node.run("migrate", "run", "--to=containerd", "--settle=1", "--output=json")
        assert done.returncode == 3
        assert "no space left on device" in done.stdout.splitlines()[-1].lower()
        assert "make room, then `cri-dockerd-py migrate resume`" in done.stdout.splitlines()[-1]
        assert (node.ask("status")["default_engine"], node.engines_of(pod)) == ("docker", {"docker"})
        assert kept(node, pod, "starts") == "1\n"
        assert node.containerd.left()["leases"] == node.containerd.left()["downloads"] == []

        subprocess.run(["mount", "-o", "remount,nr_inodes=10000", str(few_files)], check=True)
        assert node.run("migrate", "resume").returncode == 0
        finish_on(node, kubelet, [pod], "containerd")
        assert node.containerd.ctr("content", "active").splitlines()[1:] == []
        kubelet.delete(pod)
        wait_until(lambda: not kubelet.pods, "the end of the pod", 60)
