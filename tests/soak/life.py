"""A pod's life: made, used in random ways, taken down and checked, with every step repeated as kubelet repeats it."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.cni import free_host_port
from tests.soak import programs, sessions
from tests.soak.driver import Driver
from tests.soak.findings import Abandoned, Book
from tests.soak.programs import Program

#: Pushes an image that nobody has, and returns its reference.
NewImage = Callable[[], str]
_END_WITHIN_S = 120.0
_HTTP_WITHIN_S = 10.0
_TOLD_WITHIN_S = 15.0


@dataclass(slots=True)
class Running:
    """A container that was made."""

    id: str
    config: pb.ContainerConfig
    program: Program
    created_s: float
    log_path: Path


class Life:
    """One pod, from RunPodSandbox to its removal; `new_image` returns the reference of an image that can be pulled.

    `all_ids` takes the ids of this pod and its containers as soon as they are known.
    """

    def __init__(
        self,
        driver: Driver,
        book: Book,
        chance: random.Random,
        uid: str,
        new_image: NewImage,
        all_ids: set[str],
    ) -> None:
        self._call = driver
        self._cri = driver.cri
        self._book = book
        self._chance = chance
        self._new_image = new_image
        self._small_disk = chance.random() < 0.4
        self._host_port = free_host_port() if chance.random() < 0.4 else 0
        self._config = self._pod_config(uid)
        self._uid = uid
        self._up_s = 0.0
        self._pod_id = ""
        self._containers: list[Running] = []
        #: Every id of this pod and its containers, those of failed attempts too.
        self.ids: set[str] = set()
        self._all_ids = all_ids

    def run(self) -> None:
        """Live; what is wrong is in the book, and nothing of the pod is left in either case."""
        try:
            with contextlib.suppress(Abandoned):
                self._live()
        finally:
            with contextlib.suppress(Abandoned):
                self._remove_pod()
            shutil.rmtree(self._config.log_directory, ignore_errors=True)

    def _live(self) -> None:
        self._pod_id = self._call.until(self._sandbox, "a pod")
        self._book.count(f"pods on {self._call.engine}")
        self._containers = [self._container(program) for program in self._programs()]
        self._up_s = time.monotonic()
        for _ in range(self._chance.randint(1, 5)):
            self._chance.choice(self._actions())()
        self._chance.shuffle(self._containers)
        for container in self._containers:
            self._end(container)
        self._see_pod()

    # --- making

    def _pod_config(self, uid: str) -> pb.PodSandboxConfig:
        config: pb.PodSandboxConfig = self._cri.pod_config()
        Path(config.log_directory).rmdir()
        config.metadata.uid = config.labels["io.kubernetes.pod.uid"] = uid
        root = self._call.small_logs if self._small_disk else self._cri.log_root
        directory = root / f"soak_{config.metadata.name}_{uid}"
        directory.mkdir(parents=True)
        config.log_directory = str(directory)
        if self._host_port:
            config.port_mappings.add(
                container_port=programs.HTTP_PORT, host_port=self._host_port, host_ip="127.0.0.1", protocol=pb.TCP
            )
        return config

    def _programs(self) -> list[Program]:
        chosen = [programs.server(self._chance)]
        if self._host_port:
            chosen.append(programs.web())
        chosen += [programs.counter(self._chance, self._small_disk) for _ in range(self._chance.randint(0, 2))]
        self._chance.shuffle(chosen)
        return chosen

    def _sandbox(self) -> str | None:
        """Take what an earlier attempt has made, as kubelet does, or make a sandbox."""
        listed = self._listed_pods()
        ready = [one for one in listed if one.state == pb.SANDBOX_READY]
        if len(ready) > 1:
            self._call.fail(f"{len(ready)} sandboxes of one pod are ready")
        if ready:
            return str(ready[0].id)
        for one in listed:
            self._call("StopPodSandbox", pod_sandbox_id=one.id)
        self._config.metadata.attempt = max((one.metadata.attempt + 1 for one in listed), default=0)
        made = self._call.once("RunPodSandbox", config=self._config)
        if made is None:
            return None
        self._know(made.pod_sandbox_id)
        return str(made.pod_sandbox_id)

    def _know(self, *ids: str) -> None:
        self.ids.update(ids)
        self._all_ids.update(ids)

    def _listed_pods(self) -> list[pb.PodSandbox]:
        label = {"io.kubernetes.pod.uid": self._uid}
        listed = list(self._call("ListPodSandbox", filter=pb.PodSandboxFilter(label_selector=label)).items)
        self._know(*(one.id for one in listed))
        return listed

    def _container(self, program: Program) -> Running:
        config = self._cri.container_config(*program.command)
        created_s = time.monotonic()
        container_id = self._call.until(lambda: self._created(config), "a container")
        self._book.count(f"containers on {self._call.engine}")
        log_path = Path(self._config.log_directory) / config.log_path
        running = Running(container_id, config, program, created_s, log_path)
        self._call.until(lambda: self._started(running), "the start of a container")
        return running

    def _created(self, config: pb.ContainerConfig) -> str | None:
        listed = self._call("ListContainers", filter=pb.ContainerFilter(pod_sandbox_id=self._pod_id)).containers
        found = [one.id for one in listed if one.metadata.name == config.metadata.name]
        if len(found) > 1:
            self._call.fail(f"{len(found)} containers of one name and attempt")
        if found:
            self._know(found[0])
            return str(found[0])
        made = self._call.once(
            "CreateContainer", pod_sandbox_id=self._pod_id, config=config, sandbox_config=self._config
        )
        if made is None:
            return None
        self._know(made.container_id)
        return str(made.container_id)

    def _started(self, container: Running) -> bool | None:
        if self._status(container).state != pb.CONTAINER_CREATED:
            return True
        return None if self._call.once("StartContainer", container_id=container.id) is None else True

    # --- using

    def _actions(self) -> list[Callable[[], None]]:
        return [
            *([self._exec] * 3),
            *([self._session] * 2),
            *([self._rotate] * 3),
            self._stats,
            self._lists,
            self._update,
            self._image,
            *([self._web, self._forward] if self._host_port else []),
        ]

    def _of_kind(self, kind: str) -> list[Running]:
        return [one for one in self._containers if one.program.kind == kind]

    def _exec(self) -> None:
        (container,) = self._of_kind("server")
        code, word = self._chance.choice([0, 0, 3]), f"word-{self._chance.randint(0, 1 << 30)}"
        command = ["sh", "-c", f"echo {word}; echo err >&2; exit {code}"]
        done = self._call("ExecSync", container_id=container.id, cmd=command, timeout=30)
        if (done.stdout, done.stderr, done.exit_code) != (f"{word}\n".encode(), b"err\n", code):
            self._call.find(f"exec of exit {code} said {done.stdout!r} {done.stderr!r} {done.exit_code}")

    def _session(self) -> None:
        (container,) = self._of_kind("server")
        numbers = self._chance.randint(10, 30_000)
        self._book.count("streaming sessions")
        self._call.until(lambda: self._streamed(container, numbers), "a streaming session")

    def _streamed(self, container: Running, numbers: int) -> bool | None:
        command = ["sh", "-c", f"seq 1 {numbers}; exit 3"]
        began_s = time.monotonic()
        url = self._call("Exec", container_id=container.id, cmd=command, stdout=True, stderr=True).url
        try:
            received = sessions.executed(url)
            causes = received.status.get("details", {}).get("causes", [])
        except sessions.BROKEN as error:
            if not self._call.disturbed(began_s):
                self._call.fail(f"streaming session: {type(error).__name__}: {error}")
            return None
        wanted = b"".join(b"%d\n" % number for number in range(1, numbers + 1))
        if received.stdout == wanted and [cause["message"] for cause in causes] == ["3"]:
            return True
        if not self._call.disturbed(began_s):
            self._call.find(f"a session gave {len(received.stdout)} of {len(wanted)} bytes, {received.status}")
            return True
        return None

    def _rotate(self) -> None:
        for container in self._of_kind("counter"):
            if not self._is_running(container) or not container.log_path.exists():
                continue
            rotated = container.log_path.with_suffix(f".log.{len(container.program.rotated)}")
            container.log_path.rename(rotated)
            container.program.rotated.append(rotated)
            self._call.until(partial(self._reopened, container), "a reopened log")
            self._book.count("rotations")

    def _reopened(self, container: Running) -> bool | None:
        """Reopen a log; one whose container has ended meanwhile goes on under its other name."""
        if self._is_running(container):
            done = self._call.once(
                "ReopenContainerLog", may_refuse=lambda: self._ends_now(container), container_id=container.id
            )
            return None if done is None else True
        if not container.log_path.exists():
            container.program.rotated.pop().rename(container.log_path)
        return True

    def _stats(self) -> None:
        (container,) = self._of_kind("server")
        stats = self._call("ContainerStats", container_id=container.id).stats
        if not (stats.cpu.timestamp and stats.memory.working_set_bytes.value):
            self._call.find(f"stats without figures: {str(stats)[:300]!r}")
        pod = self._call("PodSandboxStats", pod_sandbox_id=self._pod_id).stats
        if pod.attributes.id != self._pod_id:
            self._call.find(f"stats of another pod: {pod.attributes.id}")
        self._call("ListContainerStats")
        self._call("ListPodSandboxStats")

    def _lists(self) -> None:
        pods = {one.id: one.state for one in self._call("ListPodSandbox").items}
        containers = {one.id: one.state for one in self._call("ListContainers").containers}
        if pods.get(self._pod_id) != pb.SANDBOX_READY:
            self._call.find(f"pod {self._pod_id} is listed as {pods.get(self._pod_id)}")
        for one in self._of_kind("server"):
            if containers.get(one.id) != pb.CONTAINER_RUNNING:
                self._call.find(f"server {one.id} is listed as {containers.get(one.id)}")
        self._call("Status")

    def _update(self) -> None:
        (container,) = self._of_kind("server")
        shares = self._chance.randint(2, 1024)
        linux = pb.LinuxContainerResources(cpu_shares=shares)
        self._call("UpdateContainerResources", container_id=container.id, linux=linux)
        told = self._status(container).resources.linux.cpu_shares
        if told != shares:
            self._call.find(f"cpu_shares {shares} were set, {told} are told")

    def _image(self) -> None:
        image = pb.ImageSpec(image=self._new_image())
        pulled = self._call("PullImage", image=image, sandbox_config=self._config).image_ref
        self._call("ImageStatus", image=image)
        self._call("ImageFsInfo")
        self._call("RemoveImage", image=image)
        self._book.count("image pulls", bool(pulled))

    def _web(self) -> None:
        self._call.until(self._answered, "an answer of a host port")

    def _answered(self) -> bool | None:
        url = f"http://127.0.0.1:{self._host_port}/passwd"
        began_s = time.monotonic()
        while time.monotonic() - began_s < _HTTP_WITHIN_S:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                if answer.read().startswith(b"root:"):
                    self._book.count("answers of host ports")
                    return True
            time.sleep(0.1)
        self._call.fail(f"port {self._host_port} does not answer")
        return None

    def _forward(self) -> None:
        self._book.count("streaming sessions")
        self._call.until(self._forwarded, "a forwarded port")

    def _forwarded(self) -> bool | None:
        began_s = time.monotonic()
        port = programs.HTTP_PORT
        url = self._call("PortForward", pod_sandbox_id=self._pod_id, port=[port]).url
        answer = b""
        with contextlib.suppress(*sessions.BROKEN):
            answer = sessions.forwarded(url, port, b"GET /passwd HTTP/1.0\r\n\r\n", b"nobody:")
        if b"nobody:" in answer:
            return True
        # A web server of which StartContainer has just returned may not listen yet.
        if not self._call.disturbed(began_s) and time.monotonic() - self._up_s > _HTTP_WITHIN_S:
            self._call.fail(f"a forwarded port gave {answer[:100]!r}")
        return None

    # --- ending

    def _end(self, container: Running) -> None:
        program = container.program
        if not program.ends:
            self._call("StopContainer", container_id=container.id, timeout=1 if program.kind == "web" else 20)
        status = self._call.until(lambda: self._ended(container), f"the end of a {program.kind}")
        programs.check_exit(self._call, program, status.exit_code, container.created_s)
        reason = "Completed" if status.exit_code == 0 else "Error"
        if status.exit_code == program.exit_code and status.reason != reason:
            self._call.find(f"a {program.kind} that ended with {status.exit_code} has the reason {status.reason!r}")
        if program.kind == "counter":
            lines = programs.check_log(self._call, program, container.log_path, container.created_s)
            self._book.count("log lines checked", lines)
        if self._chance.random() < 0.5:
            self._call("RemoveContainer", container_id=container.id)

    def _ended(self, container: Running) -> pb.ContainerStatus | None:
        """Wait for the end; a stop that came to nothing because its engine was away is repeated."""
        began_s = time.monotonic()
        while (status := self._status(container)).state != pb.CONTAINER_EXITED:
            if time.monotonic() - began_s > (_END_WITHIN_S if container.program.ends else 10.0):
                self._call.fail(
                    f"{container.program.kind} {container.id} is still in state {status.state} after its end"
                )
            time.sleep(0.2)
        return status

    def _status(self, container: Running) -> pb.ContainerStatus:
        status: pb.ContainerStatus = self._call("ContainerStatus", container_id=container.id).status
        return status

    def _ends_now(self, container: Running) -> bool:
        """Whether a container that refused has ended: its log is closed before its end is told."""
        deadline_s = time.monotonic() + _TOLD_WITHIN_S
        while (runs := self._is_running(container)) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return not runs

    def _is_running(self, container: Running) -> bool:
        return bool(self._status(container).state == pb.CONTAINER_RUNNING)

    def _see_pod(self) -> None:
        status = self._call("PodSandboxStatus", pod_sandbox_id=self._pod_id).status
        if status.state != pb.SANDBOX_READY or not status.network.ip:
            self._call.find(f"pod {self._pod_id} is in state {status.state} with the address {status.network.ip!r}")

    def _remove_pod(self) -> None:
        for one in self._listed_pods():
            self._call("StopPodSandbox", pod_sandbox_id=one.id)
            self._call("RemovePodSandbox", pod_sandbox_id=one.id)
        if left := self._listed_pods():
            self._call.find(f"pods are listed after their removal: {[one.id for one in left]}")
