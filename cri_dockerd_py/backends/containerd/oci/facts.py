"""What specs depend on beside the request: the host, its OCI runtime, and the files of a pod (values only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SelinuxContexts:
    """The host's default labels of a container's processes and files, such as `system_u:system_r:container_t:s0`."""

    process: str
    file: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host and the engine's rights allow.

    `capabilities` are those that the engine can pass on, with `CAP_`; `least_oom_score_adj` is the lowest score that
    it may set. `cgroup_mount_options` are options of the host's cgroup v2 mount that a second mount must repeat.
    `hugepage_sizes` are those that can be limited, such as `2MB`. `selinux` is None where SELinux is off.
    """

    kernel: tuple[int, int] = (6, 1)
    architecture: str = "amd64"
    cgroup_version: int = 2
    cgroup_mount_options: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset()
    least_oom_score_adj: int = -1000
    apparmor: bool = False
    seccomp: bool = True
    selinux: SelinuxContexts | None = None
    swap_accounting: bool = True
    hugepage_sizes: frozenset[str] = frozenset()
    systemd: bool = False
    in_user_namespace: bool = False
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeFeatures:
    """What an OCI runtime can do; `recursive_read_only` and `idmapped_mounts` take the kernel into account."""

    version: str = ""
    recursive_read_only: bool = False
    idmapped_mounts: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """How a runtime handler wants its specs; the names are those of containerd's CRI plugin.

    `base_runtime_spec` is a whole OCI spec that takes the place of the defaults.
    """

    systemd_cgroup: bool = False
    pod_annotations: tuple[str, ...] = ()
    container_annotations: tuple[str, ...] = ()
    privileged_without_host_devices: bool = False
    privileged_without_host_devices_all_devices_allowed: bool = False
    cgroup_writable: bool = False
    base_runtime_spec: Mapping[str, object] | None = None
    features: RuntimeFeatures = field(default_factory=RuntimeFeatures)


@dataclass(frozen=True, slots=True)
class PodFiles:
    """Host paths of what every container of a pod gets mounted; an empty one is left out (`shm` may be `/dev/shm`)."""

    hostname: str = ""
    hosts: str = ""
    resolv_conf: str = ""
    shm: str = ""


@dataclass(frozen=True, slots=True)
class SelinuxLabels:
    """Labels of a pod's or container's processes and of its mounts; empty without SELinux."""

    process: str = ""
    mount: str = ""


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device to be made in a container; `type` is c or b, `permissions` those of the device cgroup."""

    path: str
    type: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"
