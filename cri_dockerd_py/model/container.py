"""Containers: what was asked (spec), what is (record), and which transitions are legal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.security import ContainerSecurity, IdMapping


class ContainerState(IntEnum):
    """CRI ContainerState, with the wire's numbers."""

    CREATED = 0
    RUNNING = 1
    EXITED = 2
    UNKNOWN = 3


#: Legal changes of state (cri-behaviours 4.1); removal is legal from everywhere.
TRANSITIONS: Mapping[ContainerState, frozenset[ContainerState]] = {
    ContainerState.CREATED: frozenset({ContainerState.RUNNING, ContainerState.EXITED}),
    ContainerState.RUNNING: frozenset({ContainerState.EXITED}),
    ContainerState.EXITED: frozenset(),
    ContainerState.UNKNOWN: frozenset({ContainerState.RUNNING, ContainerState.EXITED}),
}


class Propagation(IntEnum):
    """CRI MountPropagation, with the wire's numbers."""

    PRIVATE = 0
    HOST_TO_CONTAINER = 1
    BIDIRECTIONAL = 2


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image as a caller names it (CRI ImageSpec)."""

    image: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    user_specified_image: str = ""
    runtime_handler: str = ""
    image_ref: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount, or, with `image` set, an image's content mounted read-only (CRI Mount)."""

    container_path: str
    host_path: str = ""
    readonly: bool = False
    selinux_relabel: bool = False
    propagation: Propagation = Propagation.PRIVATE
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    recursive_read_only: bool = False
    image: ImageSpec | None = None
    image_sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A host device; `permissions` is made of r, w and m."""

    container_path: str
    host_path: str
    permissions: str


@dataclass(frozen=True, slots=True)
class ContainerMetadata:
    """Unique within a sandbox (CRE-03)."""

    name: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What CreateContainer asked for. `envs` keep their order; bytes that are not UTF-8 are surrogate-escaped."""

    metadata: ContainerMetadata
    image: ImageSpec
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: int = 0
    resources: Resources = field(default_factory=Resources)
    security: ContainerSecurity = field(default_factory=ContainerSecurity)


@dataclass(frozen=True, slots=True)
class ContainerUser:
    """The ids that the container's first process runs with."""

    uid: int
    gid: int
    supplemental_groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container as it is now. Times are ns since the epoch, 0 when not set; `log_path` is absolute, or empty.

    `image_id` is `Image.id`; `image_ref` and `image_name` are what status shows (CST-03). `stop_signal` is the
    CRI Signal number in force. `resources` are the limits in force; `spec` keeps what was asked.
    """

    id: str
    sandbox_id: str
    spec: ContainerSpec
    state: ContainerState
    created_at_ns: int
    engine: str
    image_id: str
    image_ref: str
    image_name: str
    log_path: str = ""
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    stop_signal: int = 0
    user: ContainerUser | None = None
    resources: Resources = field(default_factory=Resources)
    writable_layer_path: str = ""


def exit_reason(exit_code: int, *, oom_killed: bool) -> str:
    """Return the reason that kubelet passes on to users (CST-06)."""
    if oom_killed:
        return "OOMKilled"
    return "Completed" if exit_code == 0 else "Error"
