"""The engine interface: what the program needs of Docker Engine, containerd, or a router over both.

Everything here is engine-neutral. Implementations translate their engine's errors into `cri_dockerd_py.errors`
(connection lost: Unavailable; absent: NotFound; ...), give every engine call a deadline, and leave names,
validation, netns, CNI, timeouts and state to the rooms above. Ids are full ids. Where "absent is fine" is said,
a missing object is success.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from cri_dockerd_py.model.container import ContainerRecord, ContainerSpec
from cri_dockerd_py.model.image import FilesystemUsage, ImageRecord, RegistryAuth
from cri_dockerd_py.model.node import EngineInfo
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec


def untold(fetched_bytes: int) -> None:
    """Hear of nothing, where nobody asks how much pulls fetch."""


@dataclass(frozen=True, slots=True)
class CreatedSandbox:
    """A sandbox that exists on the engine and does not run yet."""

    id: str
    created_at_ns: int


@dataclass(frozen=True, slots=True)
class CreatedContainer:
    """A container that exists on the engine and does not run yet.

    `image_ref` and `image_name` are what status shows for its image (CST-03); `stop_signal` is a CRI Signal number.
    """

    id: str
    created_at_ns: int
    image_ref: str
    image_name: str
    stop_signal: int
    writable_layer_path: str = ""


@dataclass(frozen=True, slots=True)
class StartedProcess:
    """The first process of a sandbox or container; `pid` is on the host, 0 when it has ended already."""

    pid: int
    started_at_ns: int
    #: Where a container's changes to its image are, if that was not known when it was created.
    writable_layer_path: str = ""


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A process to run beside a container's own; streams that are not asked for are discarded."""

    command: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """Everything the engine holds that is ours, at one moment; what is half-made is in no list."""

    info: EngineInfo
    sandboxes: tuple[SandboxRecord, ...]
    containers: tuple[ContainerRecord, ...]
    images: tuple[ImageRecord, ...]


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A sandbox's or container's first process runs."""

    id: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """A sandbox's or container's first process has ended, and all of its output is in the log.

    `reason` is "" where the exit code and `oom_killed` tell it.
    """

    id: str
    exit_code: int
    at_ns: int
    oom_killed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ObjectAppeared:
    """Somebody made a sandbox or container that carries our labels; ask `inspect` about it."""

    id: str


@dataclass(frozen=True, slots=True)
class ObjectGone:
    """A sandbox or container no longer exists."""

    id: str


@dataclass(frozen=True, slots=True)
class ImagesChanged:
    """The image store changed; `images` has to be read anew."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The event stream is (again) whole from here on: take a snapshot now."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The event stream is lost, and with it most likely the engine."""

    reason: str


EngineEvent = ProcessStarted | ProcessExited | ObjectAppeared | ObjectGone | ImagesChanged | Connected | Disconnected


class ProcessIO(ABC):
    """One end of an exec'd or attached process's streams; reading is pulled, so a slow reader slows the process."""

    @abstractmethod
    async def read(self) -> tuple[int, bytes] | None:
        """Return (1 for stdout or 2 for stderr, chunk), or None when all output has been read."""

    @abstractmethod
    async def write_stdin(self, data: bytes) -> None:
        """Write and wait for room."""

    @abstractmethod
    async def close_stdin(self) -> None:
        """Signal the end of input; may be called twice."""

    @abstractmethod
    async def resize(self, width: int, height: int) -> None:
        """Set the size of the process's terminal."""

    @abstractmethod
    async def wait(self) -> int:
        """Return the exit code once the process has ended (128+n for signal n)."""

    @abstractmethod
    async def kill(self) -> None:
        """SIGKILL the process and everything that it started in its session or process tree.

        This takes long where the process is only being started: it is waited for.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of the streams; the process goes on; may be called twice."""


class SandboxRuntime(ABC):
    """Pods' own processes, which hold their namespaces."""

    #: True when the caller chooses the id and makes the network namespace, and hands both to `create`; `start` then
    #: runs beside CNI ADD. False when the engine chooses the id, and `start` makes the namespace.
    takes_netns: ClassVar[bool]

    @abstractmethod
    async def create(self, spec: SandboxSpec, *, netns_path: str = "", sandbox_id: str = "") -> CreatedSandbox:
        """Make the sandbox under its identity's name; AlreadyExists when a live one has that name.

        Where `takes_netns` is true, `sandbox_id` (64 hex digits) is the id to give it, and `netns_path` its pinned
        namespace, which is there already; empty with host network. The namespace of a pod with a user namespace
        belongs to one that has the pod's mappings (ioctl NS_GET_USERNS tells which).
        """

    @abstractmethod
    async def start(self, sandbox_id: str, spec: SandboxSpec) -> StartedProcess:
        """Start it with resolv.conf, hosts and hostname in place."""

    async def forerunner(self, sandbox_id: str, spec: SandboxSpec) -> int:
        """While `start` runs, return a process in the sandbox's new network namespace; 0 when that cannot be told.

        It may end at any time, and the namespace has to be compared with the first process's once there is one.
        """
        return 0

    @abstractmethod
    async def kill(self, sandbox_id: str) -> None:
        """End its process; returns when it is dead; absent is fine."""

    @abstractmethod
    async def remove(self, sandbox_id: str) -> None:
        """Remove it; absent is fine."""

    @abstractmethod
    async def inspect(self, sandbox_id: str) -> SandboxRecord | None:
        """Return the sandbox as the engine knows it now (without IPs), None when absent."""

    @abstractmethod
    async def discard_unborn(self, spec: SandboxSpec) -> None:
        """Remove what a `create` of `spec` may have left whose answer was never seen; never a running sandbox."""

    @abstractmethod
    async def verbose(self, sandbox_id: str) -> Mapping[str, object]:
        """Return the engine's own view, for people (SBS-07)."""


class ContainerRuntime(ABC):
    """Containers' life."""

    @abstractmethod
    async def create(
        self, spec: ContainerSpec, image: ImageRecord, sandbox: SandboxRecord, *, log_path: str
    ) -> CreatedContainer:
        """Make the container from `image`; `log_path` is absolute, or empty when its output is to be discarded.

        Mounts of images have `image.image_ref` filled with the id of the image to mount.
        """

    @abstractmethod
    async def start(self, container_id: str) -> StartedProcess:
        """Start it, its log file open; StartFailed-like errors carry the engine's text in full."""

    @abstractmethod
    async def signal(self, container_id: str, signal_number: int) -> None:
        """Send a Linux signal to the first process (SIGKILL: to all of it, frozen or not); not running is fine."""

    @abstractmethod
    async def remove(self, container_id: str) -> None:
        """Remove it with its writable layer and anonymous volumes, killing it if needed; absent is fine."""

    @abstractmethod
    async def update(self, container_id: str, resources: Resources) -> None:
        """Set the given limits and leave unset ones alone, all or nothing."""

    @abstractmethod
    async def reopen_log(self, container_id: str) -> None:
        """Go on in a new file at the log's path (LOG-20)."""

    @abstractmethod
    async def inspect(self, container_id: str) -> ContainerRecord | None:
        """Return the container as the engine knows it now, None when absent."""

    @abstractmethod
    async def discard_unborn(self, spec: ContainerSpec, sandbox: SandboxRecord) -> None:
        """Remove what a `create` may have left whose answer was never seen; never one that has run."""

    @abstractmethod
    async def verbose(self, container_id: str) -> Mapping[str, object]:
        """Return the engine's own view, for people (CST-17)."""


class ProcessRuntime(ABC):
    """Processes beside a container's own, streams, and checkpoints."""

    @abstractmethod
    async def exec(self, container_id: str, spec: ExecSpec) -> ProcessIO:
        """Start a process in a running container; a command that cannot be executed raises with the runtime's text."""

    @abstractmethod
    async def attach(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> ProcessIO:
        """Join the streams of a container's first process."""

    @abstractmethod
    async def checkpoint(self, container_id: str, location: str, *, within_s: float) -> None:
        """Write a checkpoint archive to `location` and leave the container running; Unimplemented where impossible."""


class ImageStore(ABC):
    """Images of one engine."""

    @abstractmethod
    async def pull(self, image: str, auth: RegistryAuth | None) -> str:
        """Fetch and unpack the normalised reference `image`; return its image id. Cancelling stops the transfer."""

    @abstractmethod
    async def list(self) -> Sequence[ImageRecord]:
        """Return all images, dangling ones too."""

    @abstractmethod
    async def inspect(self, image: str) -> ImageRecord | None:
        """Return the image with this id or normalised reference, user and size included; None when absent."""

    @abstractmethod
    async def remove(self, image_id: str) -> None:
        """Remove all names of the image and the image, or hide it while containers use it; absent is fine."""

    @abstractmethod
    async def filesystems(self) -> tuple[Sequence[FilesystemUsage], Sequence[FilesystemUsage]]:
        """Return (image file systems, container file systems); never empty, also without images (IMG-60)."""

    @abstractmethod
    async def verbose(self, image_id: str) -> Mapping[str, object]:
        """Return chain id, labels and image configuration, for people (IMG-12)."""


class EventSource(ABC):
    """What changes on the engine without us, and the whole of it."""

    @abstractmethod
    def events(self) -> AsyncIterator[EngineEvent]:
        """Yield events for ever, reconnecting by itself; `Connected` comes first and after every gap."""

    @abstractmethod
    async def snapshot(self) -> EngineSnapshot:
        """Return the whole state; cheap enough to take every few minutes."""

    @abstractmethod
    async def ping(self) -> None:
        """Return when the engine answers; Unavailable when it does not within a few seconds."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its name and the rooms of its interface."""

    name: str
    sandboxes: SandboxRuntime
    containers: ContainerRuntime
    processes: ProcessRuntime
    images: ImageStore
    events: EventSource
