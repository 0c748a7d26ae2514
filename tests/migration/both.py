"""A real node: Docker and containerd, the service on both, and the stand-in for kubelet."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests import images
from tests.cni import CniNetwork
from tests.cri_server import CriServer
from tests.engines import ContainerdNode, DockerEngine
from tests.kubelet import AppContainer, AppPod, Kubelet
from tests.migration.asking import PORT, get
from tests.processes import Daemon, answers, power_off, wait_until

PROGRAM = Path(sys.executable).parent / "cri-dockerd-py"
#: Times that do for pods which start at once.
QUICK = ("--settle=1", "--timeout=60")
#: Answers HTTP with the pod's name and how often it was started, which an emptyDir keeps; ends at once on SIGTERM.
_SERVE = (
    "echo $(($(cat /kept/starts 2>/dev/null || echo 0) + 1)) > /kept/starts; "
    "echo $(hostname) > /kept/index.html; echo started $(cat /kept/starts); "
    f"httpd -f -p {PORT} -h /kept & server=$!; "
    "trap 'echo stopping; kill $server; exit 0' TERM; while :; do sleep 0.2 & wait $!; echo tick; done"
)


def web_pod(name: str, image: str = images.BUSYBOX, **fields: Any) -> AppPod:
    """Return a pod that serves HTTP and notes its preStop hook in its emptyDir."""
    container = AppContainer(
        "web",
        image,
        ("sh", "-c", _SERVE),
        pre_stop=("sh", "-c", "echo pre-stop >> /kept/hooks"),
        volumes={"kept": "/kept"},
    )
    return AppPod(name, (container,), **{"grace_s": 5, **fields})


class MigratingNode:
    """The service on two engines, its command line, and kubelet on its socket."""

    def __init__(self, docker: DockerEngine, containerd: ContainerdNode, network: CniNetwork) -> None:
        self.docker = docker
        self.containerd = containerd
        self.network = network
        flags = [
            "--backend=both",
            f"--containerd-endpoint={containerd.endpoint}",
            f"--containerd-namespace={containerd.namespace}",
        ]
        self.server = CriServer(docker, network, flags)
        self.kubelet_dir = self.server.directory / "kubelet"

    def start(self) -> None:
        """Start the service."""
        self.server.start()

    @contextlib.contextmanager
    def kubelet(self) -> Iterator[Kubelet]:
        """Run kubelet; pods are removed at the end."""
        with Kubelet(self.server.socket, self.kubelet_dir) as kubelet:
            try:
                yield kubelet
            finally:
                if self.server.daemon.running:
                    for pod in list(kubelet.pods.values()):
                        kubelet.delete(pod)
                    with contextlib.suppress(TimeoutError):
                        wait_until(lambda: not kubelet.pods, "the end of all pods", 60)

    def command(self, *words: str) -> list[str]:
        """Return a command line for this service."""
        where = [f"--state-dir={self.server.state_dir}", f"--config={self.server.directory}/config.toml"]
        return [str(PROGRAM), *words, *where]

    def run(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin to run the command line."""
        return subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ask(self, *words: str) -> Any:
        """Run the command line for JSON, and return the last document."""
        done = self.run(*words, "--output=json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def migrate(self, *words: str, timeout: float = 300) -> Any:
        """Run a migration that must succeed, and return how it ended."""
        done = self.run("migrate", *words, "--output=json", timeout=timeout)
        assert done.returncode == 0, f"{done.stderr}\n{done.stdout[-3000:]}\n{self.server.daemon.log_tail(60)}"
        return json.loads(done.stdout.splitlines()[-1])

    def engines_of(self, pod: AppPod) -> set[str]:
        """Return the engines on which processes of a pod's containers run, as the engines themselves say.

        containerd is asked first: of a pod that has moved there, nothing may run on Docker any more.
        """
        found = set()
        listed = self.containerd.ctr("containers", "ls", "--quiet", f'labels."io.kubernetes.pod.uid"=={pod.uid}')
        running = {line.split()[0] for line in self.containerd.ctr("tasks", "ls").splitlines() if "RUNNING" in line}
        if set(listed.split()) & running:
            found.add("containerd")
        label = f"io.kubernetes.pod.uid={pod.uid}"
        if self.docker.client.api.containers(filters={"label": label}):
            found.add("docker")
        return found

    def on_docker(self) -> Sequence[str]:
        """Return the names of all containers that Docker has."""
        return [one["Names"][0] for one in self.docker.client.api.containers(all=True)]

    def power_off(self) -> None:
        """End everything at once, as the end of power does; what /run has is lost, what is on disk stays."""
        daemons = [self.server.daemon, *self._engine_daemons()]
        for daemon in daemons:
            daemon.kill()
        directories = (self.server.directory, self.docker.directory, self.containerd.directory)
        for directory in directories:
            power_off(directory)
            for lost in ("c-state", "exec", "state", "docker.pid"):
                path = directory / lost
                path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        subprocess.run(["ip", "link", "delete", self.network.bridge], check=True)

    def power_on(self, *, service_first: bool) -> None:
        """Start all again, the service before or after the engines."""
        if service_first:
            self.server.daemon.start(lambda: answers(self.server.socket))
        self.docker.start()
        if not self.containerd.daemon.running:
            self.containerd.start()
        if not service_first:
            self.server.start()

    def _engine_daemons(self) -> list[Daemon]:
        return [self.docker.daemon, self.docker.containerd.daemon, self.containerd.daemon]

    def close(self) -> None:
        """Stop the service."""
        self.server.close()


def started(kubelet: Kubelet, pods: list[AppPod]) -> list[AppPod]:
    """Run pods, and wait until they answer."""
    kubelet.add(*pods)
    for pod in pods:
        wait_until(partial(kubelet.is_running, pod), f"{pod.name} running; {kubelet.events}", 120)
        wait_until(partial(_answers, kubelet, pod), f"an answer of {pod.name}", 30)
    return pods


def _answers(kubelet: Kubelet, pod: AppPod) -> bool:
    return get(kubelet.address(pod)) is not None


def kept(node: MigratingNode, pod: AppPod, name: str) -> str:
    return (pod.volume(node.kubelet_dir, "kept") / name).read_text()


def logs(node: MigratingNode, pod: AppPod) -> dict[str, str]:
    directory = pod.log_directory(node.kubelet_dir) / "web"
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}
