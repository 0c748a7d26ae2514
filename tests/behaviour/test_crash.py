"""kill -9 of the service at any step of any write: nothing is left, and the caller's repeat succeeds."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from cri_dockerd_py._generated.containerd_v1.snapshots_pb2 import MountsRequest
from cri_dockerd_py._generated.containerd_v1.snapshots_pb2_grpc import SnapshotsStub
from cri_dockerd_py._generated.containerd_v1.tasks_pb2 import CreateTaskRequest
from cri_dockerd_py._generated.containerd_v1.tasks_pb2_grpc import TasksStub
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, eventually, host_pids
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.behaviour.traces import traces
from tests.cni import free_host_port
from tests.cri_server import CriServer
from tests.engines import ContainerdNode, DockerEngine, RealEngine

pytestmark = OWN_SERVICE
ROUNDS = 32
LONGEST_DELAY_SECONDS = 0.4
#: How long Docker waits for the output of a container that has ended before it takes its file system away.
_DOCKER_CLEANS_UP_SECONDS = 3.0
StartServer = Callable[..., CriServer]


class Life:
    """A pod's life as a caller drives it: each step can be repeated until it has succeeded."""

    def __init__(self, cri: Cri) -> None:
        mapping = pb.PortMapping(container_port=80, host_port=free_host_port(), host_ip="127.0.0.1")
        self.pod_config = cri.pod_config(port_mappings=[mapping])
        self.container_config = cri.container_config()
        self.pod_id = self.container_id = ""
        self._cri = cri

    def steps(self) -> list[tuple[str, dict[str, Callable[[], Any]]]]:
        """Return (method, fields that are read when the step's turn has come)."""
        pod = {"pod_sandbox_id": lambda: self.pod_id}
        container = {"container_id": lambda: self.container_id}
        create = {**pod, "config": lambda: self.container_config, "sandbox_config": lambda: self.pod_config}
        return [
            ("RunPodSandbox", {"config": lambda: self.pod_config}),
            ("CreateContainer", create),
            ("StartContainer", container),
            ("StopContainer", container),
            ("RemoveContainer", container),
            ("StopPodSandbox", pod),
            ("RemovePodSandbox", pod),
        ]

    def begin(self, step: int) -> Any:
        """Begin a step."""
        method, fields = self.steps()[step]
        return self._cri.begin(method, **{name: read() for name, read in fields.items()})

    def finish(self, step: int) -> None:
        """Do a step, or see that the interrupted call has done it."""
        method, _ = self.steps()[step]
        if method == "RunPodSandbox":
            self.pod_id = self._listed_pod() or self.begin(step).result().pod_sandbox_id
        elif method == "CreateContainer":
            self.container_id = self._listed_container() or self.begin(step).result().container_id
        elif method == "StartContainer" and self._state() != pb.CONTAINER_CREATED:
            return
        else:
            self.begin(step).result()

    def _listed_pod(self) -> str:
        found = [pod for pod in self._cri.pods() if pod.metadata.uid == self.pod_config.metadata.uid]
        assert len(found) <= 1
        for pod in found:
            assert pod.state == pb.SANDBOX_READY, "a half-made pod is listed"
            assert Pod(self._cri, pod.id, self.pod_config).ip()
        return found[0].id if found else ""

    def _listed_container(self) -> str:
        found = self._cri.containers(pod_sandbox_id=self.pod_id)
        assert len(found) <= 1
        return found[0].id if found else ""

    def _state(self) -> int:
        return int(self._cri("ContainerStatus", container_id=self.container_id).status.state)


def repeat(step: Callable[[], None]) -> None:
    """Repeat a step while the service finds its feet, as callers do; the last refusal is the failure."""
    refusals: list[str] = []

    def succeeds() -> bool:
        try:
            step()
        except grpc.RpcError as error:
            refusals.append(f"{error.code()}: {error.details()}")
            return False
        return True

    try:
        eventually(succeeds, bool, "success of the repeated call", 30)
    except TimeoutError as error:
        raise AssertionError(f"{error}: {refusals[-1]}") from None


@pytest.mark.behaviour("GEN-12", "GEN-14", "GEN-15", "RUN-06", "RUN-07", "NET-13", "STP-04", "CRE-07", "IDM-12")
@pytest.mark.timeout(900)
def test_kill_at_any_step_leaves_nothing_and_the_repeat_succeeds(
    own_engine: RealEngine, start_server: StartServer
) -> None:
    server = start_server(own_engine)
    chance = random.Random(20)
    with service_client(server) as cri:
        life, step = Life(cri), 0
        _sees_all_traces(server, life)
        for _ in range(ROUNDS):
            call = life.begin(step)
            threading.Event().wait(chance.uniform(0.0, LONGEST_DELAY_SECONDS))
            server.restart()
            call.cancel()
            repeat(lambda life=life, step=step: life.finish(step))
            step += 1
            if step == len(life.steps()):
                life, step = Life(cri), 0
        for pod in cri.pods():
            Pod(cri, pod.id, life.pod_config).remove()
        assert not cri.pods()
        assert not cri.containers()
        eventually(lambda: traces(server), lambda found: not _beside_bundles(found), "a clean host")
        if traces(server).get("bundles"):
            own_engine.restart()
            eventually(lambda: traces(server), lambda found: not any(found.values()), "a clean host")


def _beside_bundles(found: dict[str, list[str]]) -> list[str]:
    """Return the kinds of traces beside bundles: containerd 1.7 keeps one whose deletion was cut off until it starts.

    No client can remove it; what was mounted or ran in it is another kind of trace.
    """
    return [kind for kind, items in found.items() if items and kind != "bundles"]


def _sees_all_traces(server: CriServer, life: Life) -> None:
    """See that what is looked for afterwards can be found: an empty answer is worth nothing otherwise."""
    for step in range(3):
        life.finish(step)
    found = traces(server)
    rare = {
        "files of pods",
        "leases",
        "records of the sandbox store",
        "downloads",
        "files of the CRI plugin",
    }
    assert not [kind for kind, items in found.items() if not items and kind not in rare]
    for step in range(3, len(life.steps())):
        life.finish(step)


@pytest.mark.behaviour("GEN-12", "GEN-08", "LCT-08", "CST-08", "LSB-09")
def test_pods_go_on_over_a_crash_and_are_as_they_were(own_engine: RealEngine, start_server: StartServer) -> None:
    server = start_server(own_engine)
    with service_client(server) as cri:
        pod = cri.run_pod(cri.pod_config(annotations={"a": "b"}))
        running = pod.start(
            "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done", annotations={"c": "d"}
        )
        created, dead = pod.create(), pod.run("sh", "-c", "exit 3")
        dying = pod.start("sh", "-c", "sleep 1; exit 4")
        before = _views(pod, [running, created, dead])
        server.kill()
        threading.Event().wait(1.5)
        server.start()
        eventually(cri.pods, bool, "the pods")
        assert _views(pod, [running, created, dead]) == before
        status = dying.wait()
        assert (status.exit_code, status.reason) == (4, "Error")
        assert running.exec("echo", "alive").stdout == b"alive\n"
        created.start()
        running.stop()
        numbers = [int(entry.content) for entry in running.log()]
        assert numbers == list(range(1, len(numbers) + 1)), "log lines were lost or doubled"
        pod.remove()


def _views(pod: Pod, containers: Sequence[Container]) -> list[Any]:
    cri = pod.cri
    return [
        pod.status(),
        sorted(item.SerializeToString(deterministic=True) for item in cri.pods()),
        *(container.status() for container in containers),
        *(container.listed() for container in containers),
    ]


@pytest.mark.behaviour("GEN-12", "STT-01")
def test_start_waits_for_the_end_of_one_that_was_cut_off(
    own_containerd_node: ContainerdNode, start_server: StartServer, tmp_path: Path
) -> None:
    with service_client(start_server(own_containerd_node)) as cri:
        pod = cri.run_pod()
        container = pod.create()
        left = _half_started(own_containerd_node, container.id, tmp_path)
        removal = threading.Timer(0.7, subprocess.run, ([*left, "delete", "--force", container.id],), {"check": True})
        removal.start()
        container.start()
        removal.cancel()  # containerd 1.6 removes it itself, and what has the id now is the container
        removal.join()
        assert container.status().state == pb.CONTAINER_RUNNING
        assert container.exec("echo", "alive").stdout == b"alive\n"
        pod.remove()


@pytest.mark.behaviour("GEN-12", "STT-01")
def test_start_replaces_a_task_of_which_containerd_could_not_tell(
    own_containerd_node: ContainerdNode, start_server: StartServer
) -> None:
    with service_client(start_server(own_containerd_node)) as cri:
        pod = cri.run_pod()
        container = pod.create()
        create = CreateTaskRequest(container_id=container.id, rootfs=_rootfs(own_containerd_node, container.id))
        with grpc.insecure_channel(own_containerd_node.endpoint) as channel:
            TasksStub(channel).Create(create, metadata=[("containerd-namespace", own_containerd_node.namespace)])
        container.start()
        assert container.exec("echo", "alive").stdout == b"alive\n"
        threading.Event().wait(1.5)  # in which the news of the first task's end come
        assert container.status().state == pb.CONTAINER_RUNNING
        pod.remove()


def _rootfs(node: ContainerdNode, snapshot: str) -> list[Mount]:
    with grpc.insecure_channel(node.endpoint) as channel:
        request = MountsRequest(snapshotter="overlayfs", key=snapshot)
        metadata = [("containerd-namespace", node.namespace)]
        return list(SnapshotsStub(channel).Mounts(request, metadata=metadata).mounts)


def _half_started(node: ContainerdNode, container_id: str, bundle: Path) -> list[str]:
    """Leave in the runtime what is there of a start that was cut off; return the command for its end."""
    runc = [
        str(shutil.which("runc", path=node.binaries.search_path)),
        "--root",
        f"/run/containerd/runc/{node.namespace}",
    ]
    subprocess.run([*runc, "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["/busybox", "sleep", "60"]}
    spec["linux"]["resources"] = {}
    (bundle / "config.json").write_text(json.dumps(spec))
    (bundle / "rootfs").mkdir()
    shutil.copy("/bin/busybox", bundle / "rootfs" / "busybox")
    command = [*runc, "create", "--bundle", str(bundle), container_id]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return runc


@pytest.mark.behaviour("STP-01", "RMP-01")
def test_no_shim_outlives_a_pod_that_is_taken_down_while_its_containers_run(
    own_containerd_node: ContainerdNode, start_server: StartServer
) -> None:
    with service_client(start_server(own_containerd_node)) as cri, ThreadPoolExecutor(4) as pool:

        def live(_: int) -> int:
            pod = cri.run_pod()
            for _ in range(2):
                pod.start()
            shims = len(_shims(own_containerd_node))
            pod.remove()
            return shims

        assert all(pool.map(live, range(24)))
        eventually(lambda: _shims(own_containerd_node), lambda found: not found, "the end of all shims", 30)


def _shims(node: ContainerdNode) -> list[str]:
    done = subprocess.run(["pgrep", "--full", f"containerd-shim.* {node.socket}"], capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.behaviour("GEN-12", "STT-01", "RMC-01")
@pytest.mark.parametrize("then", ["started", "removed"])
def test_what_runs_without_docker_knowing_is_ended(
    own_docker_engine: DockerEngine, start_server: StartServer, tmp_path: Path, then: str
) -> None:
    with service_client(start_server(own_docker_engine)) as cri:
        pod = cri.run_pod()
        container = pod.create()
        own_docker_engine.kill()
        _run_behind_docker(own_docker_engine, container.id, tmp_path)
        assert host_pids(container.id)
        own_docker_engine.start()
        eventually(lambda: cri("Status").status.conditions[0].status, bool, "Docker's return", 30)
        assert host_pids(container.id) == []
        if then == "started":
            # From Docker 25 on, it may have taken the end of what it did not know for that of the container.
            may_fail = int(own_docker_engine.version().partition(".")[0]) >= 25
            with contextlib.suppress(grpc.RpcError) if may_fail else contextlib.nullcontext():
                container.start()
            alive = container if container.status().state == pb.CONTAINER_RUNNING else pod.start()
            time.sleep(_DOCKER_CLEANS_UP_SECONDS)
            assert alive.exec("echo", "alive").stdout == b"alive\n"
            assert alive.status().state == pb.CONTAINER_RUNNING
        else:
            container.remove()
        pod.remove()


def _run_behind_docker(engine: DockerEngine, container_id: str, rootfs: Path) -> None:
    """Run in Docker's containerd what a Docker that died in the middle of a start has not noted."""
    shutil.copy("/bin/busybox", rootfs / "busybox")
    ctr = [str(shutil.which("ctr", path=engine.binaries.search_path)), "--address", str(engine.containerd.socket)]
    command = [*ctr, "--namespace", "moby", "run", "--detach", "--null-io", "--rootfs", str(rootfs), container_id]
    subprocess.run([*command, "/busybox", "sleep", "600"], check=True, capture_output=True)


@pytest.mark.behaviour("NET-13", "GEN-12")
def test_stop_by_sigterm_leaves_pods_alone_and_ends_well(own_engine: RealEngine, start_server: StartServer) -> None:
    server = start_server(own_engine)
    with service_client(server) as cri:
        pod = cri.run_pod()
        container = pod.start()
        assert server.stop() == 0
        server.start()
        eventually(cri.pods, bool, "the pods")
        assert container.status().state == pb.CONTAINER_RUNNING
        assert pod.status().state == pb.SANDBOX_READY
        pod.remove()
