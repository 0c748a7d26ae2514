"""A CRI client for tests: calls by method name, and pods and containers as objects."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb

CALL_DEADLINE_SECONDS = 90.0
CLIENT_MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
FOREVER = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"
# The answers that say nothing about the request itself: no check of a refusal may be content with them.
_NO_REFUSAL = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_METHODS = {
    method.name: (service.name, method)
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
_serial = itertools.count()


def methods() -> dict[str, tuple[str, Any]]:
    """Return {method: (service, descriptor)} of both services."""
    return dict(_METHODS)


class Cri:
    """Both services on one socket; `cri("Status", verbose=True)` makes a call."""

    def __init__(self, socket: Path | str, log_root: Path, package: str = "runtime.v1") -> None:
        self.socket = str(socket)
        self.log_root = log_root
        self.package = package
        self.images: dict[str, str] = {}
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", CLIENT_MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", CLIENT_MESSAGE_LIMIT_BYTES),
            ("grpc.default_authority", "localhost"),
            # A service that is restarted is found again soon.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)

    def __call__(self, method: str, *, deadline: float = CALL_DEADLINE_SECONDS, **fields: Any) -> Any:
        """Make a unary call and return its response."""
        return self._stub(method)(self._request(method, fields), timeout=deadline)

    def begin(self, method: str, *, deadline: float | None = CALL_DEADLINE_SECONDS, **fields: Any) -> Any:
        """Begin a unary call and return its future, which can be cancelled."""
        return self._stub(method).future(self._request(method, fields), timeout=deadline)

    def stream(self, method: str, *, deadline: float | None = CALL_DEADLINE_SECONDS, **fields: Any) -> Any:
        """Begin a call with a stream of responses and return that stream."""
        return self._stub(method)(self._request(method, fields), timeout=deadline)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def pod_config(self, name: str = "", **fields: Any) -> pb.PodSandboxConfig:
        """Return the config of a new pod as kubelet would write it, with a name and uid of its own."""
        name = name or f"pod-{next(_serial)}"
        uid = str(uuid.uuid4())
        log_directory = self.log_root / f"behaviour_{name}_{uid}"
        log_directory.mkdir(parents=True, exist_ok=True)
        labels = {
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": "behaviour",
            "io.kubernetes.pod.uid": uid,
        }
        defaults: dict[str, Any] = {
            "metadata": pb.PodSandboxMetadata(name=name, uid=uid, namespace="behaviour", attempt=0),
            "log_directory": str(log_directory),
            "labels": labels,
            "linux": pb.LinuxPodSandboxConfig(),
        }
        return pb.PodSandboxConfig(**{**defaults, **fields})

    def container_config(self, *command: str, image: str = "busybox", **fields: Any) -> pb.ContainerConfig:
        """Return the config of a new container; without a command it runs until it is stopped."""
        name = f"container-{next(_serial)}"
        defaults: dict[str, Any] = {
            "metadata": pb.ContainerMetadata(name=name, attempt=0),
            "image": pb.ImageSpec(image=self.images.get(image, image)),
            "command": list(command) or ["sh", "-c", FOREVER],
            "log_path": f"{name}/0.log",
            "linux": pb.LinuxContainerConfig(),
        }
        return pb.ContainerConfig(**{**defaults, **fields})

    def run_pod(self, config: pb.PodSandboxConfig | None = None, runtime_handler: str = "") -> Pod:
        """Run a pod."""
        config = config or self.pod_config()
        response = self("RunPodSandbox", config=config, runtime_handler=runtime_handler)
        return Pod(self, response.pod_sandbox_id, config)

    def pods(self, **conditions: Any) -> list[pb.PodSandbox]:
        """List pods by the conditions of a filter."""
        return list(self("ListPodSandbox", filter=pb.PodSandboxFilter(**conditions)).items)

    def containers(self, **conditions: Any) -> list[pb.Container]:
        """List containers by the conditions of a filter."""
        return list(self("ListContainers", filter=pb.ContainerFilter(**conditions)).containers)

    def image(self, name: str) -> pb.Image | None:
        """Return an image, or nothing when it is absent."""
        response = self("ImageStatus", image=pb.ImageSpec(image=name))
        return response.image if response.HasField("image") else None

    @staticmethod
    def _request(method: str, fields: dict[str, Any]) -> Any:
        return GetMessageClass(_METHODS[method][1].input_type)(**fields)

    def _stub(self, method: str) -> Any:
        service, descriptor = _METHODS[method]
        make = self._channel.unary_stream if descriptor.server_streaming else self._channel.unary_unary
        return make(
            f"/{self.package}.{service}/{method}",
            request_serializer=GetMessageClass(descriptor.input_type).SerializeToString,
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that was run."""

    cri: Cri
    id: str
    config: pb.PodSandboxConfig

    def create(self, *command: str, **fields: Any) -> Container:
        """Create a container in this pod."""
        return self.create_from(self.cri.container_config(*command, **fields))

    def create_from(self, config: pb.ContainerConfig) -> Container:
        """Create a container of a ready-made config in this pod."""
        response = self.cri("CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config)
        return Container(self.cri, response.container_id, self, config)

    def start(self, *command: str, **fields: Any) -> Container:
        """Create and start a container in this pod."""
        container = self.create(*command, **fields)
        container.start()
        return container

    def run(self, *command: str, **fields: Any) -> Container:
        """Create and start a container in this pod and wait for its end."""
        container = self.start(*command, **fields)
        container.wait()
        return container

    def status(self) -> pb.PodSandboxStatus:
        """Return the pod's status."""
        return self.cri("PodSandboxStatus", pod_sandbox_id=self.id).status

    def ip(self) -> str:
        """Return the pod's first address."""
        return str(self.status().network.ip)

    def stop(self) -> None:
        """Stop the pod."""
        self.cri("StopPodSandbox", pod_sandbox_id=self.id)

    def remove(self) -> None:
        """Stop and remove the pod."""
        self.stop()
        self.cri("RemovePodSandbox", pod_sandbox_id=self.id)


@dataclass(frozen=True, slots=True)
class Container:
    """A container that was created."""

    cri: Cri
    id: str
    pod: Pod
    config: pb.ContainerConfig

    def start(self) -> None:
        """Start the container."""
        self.cri("StartContainer", container_id=self.id)

    def stop(self, timeout: int = 0) -> None:
        """Stop the container."""
        self.cri("StopContainer", container_id=self.id, timeout=timeout)

    def remove(self) -> None:
        """Remove the container."""
        self.cri("RemoveContainer", container_id=self.id)

    def status(self) -> pb.ContainerStatus:
        """Return the container's status."""
        return self.cri("ContainerStatus", container_id=self.id).status

    def listed(self) -> pb.Container:
        """Return the container's entry in the list."""
        (item,) = self.cri.containers(id=self.id)
        return item

    def wait(self, timeout: float = 60.0) -> pb.ContainerStatus:
        """Wait for the container's end and return its status."""
        return eventually(self.status, lambda status: status.state == pb.CONTAINER_EXITED, f"end of {self.id}", timeout)

    def exec(self, *command: str, timeout: int = 20) -> pb.ExecSyncResponse:
        """Run a command in the container."""
        return self.cri("ExecSync", container_id=self.id, cmd=list(command), timeout=timeout)

    def sh(self, script: str) -> str:
        """Run a shell script in the container and return what it prints; a failure of it is an error."""
        done = self.exec("sh", "-c", script)
        assert done.exit_code == 0, f"{script!r} ended with {done.exit_code}: {done.stderr!r} {done.stdout!r}"
        return done.stdout.decode().strip()

    @property
    def log_path(self) -> Path:
        """The path of the log that was asked for."""
        return Path(self.pod.config.log_directory) / self.config.log_path

    def log(self) -> list[LogEntry]:
        """Return the entries of the log, parsed strictly."""
        return parse_log(self.log_path.read_bytes())

    def output(self, stream: str = "stdout") -> str:
        """Return what the container printed on a stream according to its log, stripped."""
        return join_log(self.log(), stream).decode(errors="surrogateescape").strip()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a CRI log file."""

    time: str
    stream: str
    tag: str
    content: bytes = field(repr=False)


_LOG_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?::[^ ]*)? (.*)",
    re.DOTALL,
)


def parse_log(data: bytes) -> list[LogEntry]:
    """Parse a whole CRI log file; anything that is not exactly the format is an error."""
    assert not data or data.endswith(b"\n"), f"the log ends in the middle of a line: {data[-200:]!r}"
    entries = []
    for line in data.split(b"\n")[:-1]:
        match = _LOG_LINE.fullmatch(line)
        assert match, f"not a line of a CRI log: {line[:200]!r}"
        when, stream, tag, content = match.groups()
        entries.append(LogEntry(when.decode(), stream.decode(), tag.decode(), content))
    return entries


def join_log(entries: list[LogEntry], stream: str) -> bytes:
    """Return what was written to `stream`, as readers of the format put it together."""
    return b"".join(e.content + (b"\n" if e.tag == "F" else b"") for e in entries if e.stream == stream)


@contextlib.contextmanager
def refused(*codes: grpc.StatusCode) -> Iterator[None]:
    """Expect a call to be refused, with one of `codes` when given, and with a text that says why."""
    refusal = None
    try:
        yield
    except grpc.RpcError as error:
        refusal = error
    assert refusal is not None, "the call was not refused"
    code = refusal.code()
    assert code in codes if codes else code not in _NO_REFUSAL, f"refused with {code}: {refusal.details()}"
    assert refusal.details(), f"{code} comes without a text"


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    """Make a call and return the code that it ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def eventually(read: Callable[[], Any], accept: Callable[[Any], bool], what: str, timeout: float = 20.0) -> Any:
    """Read until the value is accepted and return it."""
    deadline = time.monotonic() + timeout
    pause = 0.02
    while not accept(value := read()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {timeout:g} s; last seen: {value}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
    return value


def host_pids(container_id: str) -> list[int]:
    """Return the living processes of a container as the host numbers them, oldest first, found by their cgroup."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                belongs = container_id in (process / "cgroup").read_text()
                if belongs and (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(int(process.name))
    return sorted(found)


def shim_of(container_id: str) -> int:
    """Return the parent of a container's process, which does what an engine asks for."""
    status = Path(f"/proc/{host_pids(container_id)[0]}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


@contextlib.contextmanager
def stopped_shim(container_id: str) -> Iterator[None]:
    """Let the engine do nothing to a container meanwhile."""
    shim = shim_of(container_id)
    os.kill(shim, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(shim, signal.SIGCONT)
