"""Everything that a spec is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cri_dockerd_py.backends.cdi.edits import CdiEdits
from cri_dockerd_py.backends.containerd.oci.facts import (
    DeviceNode,
    HandlerOptions,
    HostFacts,
    PodFiles,
    SelinuxLabels,
)
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.backends.mount_table import MountInfo
from cri_dockerd_py.backends.users import ResolvedUser
from cri_dockerd_py.model.container import ContainerSpec, Mount
from cri_dockerd_py.model.sandbox import SandboxSpec


@dataclass(frozen=True, slots=True)
class Profiles:
    """Profiles of one container as the host has them.

    `seccomp` is the JSON object of a Localhost profile; `apparmor_loaded` are the kernel's AppArmor profiles, None
    when they are not needed.
    """

    seccomp: Mapping[str, object] | None = None
    apparmor_loaded: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxInputs:
    """For `sandbox_spec`. `image` is the pause image's configuration; `namespace` is containerd's.

    `userns_path` pins the user namespace that owns the network namespace, for a pod that has both of its own.
    `rootfs` may be absolute; `image_name` is "" for the built-in pause program.
    """

    id: str
    spec: SandboxSpec
    image: ImageConfig
    user: ResolvedUser
    facts: HostFacts
    handler: HandlerOptions
    files: PodFiles
    namespace: str = "k8s.io"
    netns_path: str = ""
    userns_path: str = ""
    rootfs: str = "rootfs"
    image_name: str = ""
    labels: SelinuxLabels = field(default_factory=SelinuxLabels)
    profiles: Profiles = field(default_factory=Profiles)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerInputs:
    """For `container_spec`. `mounts` are the request's, links resolved and images mounted (`host_path` is where).

    `target_pid` is that of the container whose pid namespace is joined, 0 for none. `hostname` is the pod's, or the
    host's where it has none. `volumes` maps paths of the image's VOLUMEs to the directories that hold them.
    `devices` are the request's with their host nodes; `host_devices` all of the host, for privileged containers.
    `mount_table` is needed when a mount has a propagation. `sandbox_labels` are inherited by a container that has no
    SELinux options of its own; `labels` are the container's.
    """

    id: str
    spec: ContainerSpec
    sandbox_id: str
    sandbox: SandboxSpec
    sandbox_pid: int
    image: ImageConfig
    user: ResolvedUser
    facts: HostFacts
    handler: HandlerOptions
    files: PodFiles
    namespace: str = "k8s.io"
    target_pid: int = 0
    hostname: str = ""
    rootfs: str = "rootfs"
    mounts: Sequence[Mount] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[DeviceNode] = ()
    host_devices: Sequence[DeviceNode] = ()
    mount_table: Sequence[MountInfo] = ()
    cdi: CdiEdits = field(default_factory=CdiEdits)
    labels: SelinuxLabels = field(default_factory=SelinuxLabels)
    profiles: Profiles = field(default_factory=Profiles)
