"""Namespaces, users, capabilities and profiles of sandboxes and containers (CRI security contexts)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum


class NamespaceMode(IntEnum):
    """CRI NamespaceMode, with the wire's numbers."""

    POD = 0
    CONTAINER = 1
    NODE = 2
    TARGET = 3


class ProfileType(Enum):
    """Kind of a seccomp or AppArmor profile."""

    RUNTIME_DEFAULT = "runtime/default"
    UNCONFINED = "unconfined"
    LOCALHOST = "localhost"


class GroupsPolicy(IntEnum):
    """How supplemental groups meet the groups of the image's user (CRI SupplementalGroupsPolicy)."""

    MERGE = 0
    STRICT = 1


@dataclass(frozen=True, slots=True)
class SecurityProfile:
    """A seccomp profile (path of a JSON file) or an AppArmor profile (name), decoded from the new or the old field."""

    kind: ProfileType
    localhost_ref: str = ""


@dataclass(frozen=True, slots=True)
class SelinuxOptions:
    """Parts of an SELinux label; empty parts are not set."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class IdMapping:
    """`length` ids from `container_id` inside are `host_id` onwards outside."""

    host_id: int
    container_id: int
    length: int


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """A pod's user namespace request (CRI UserNamespace)."""

    mode: NamespaceMode
    uids: tuple[IdMapping, ...] = ()
    gids: tuple[IdMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceOptions:
    """Which namespaces are shared with whom (CRI NamespaceOption)."""

    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    target_id: str = ""
    userns: UserNamespace | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Names without `CAP_`, upper case; `ALL` stands for all."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    add_ambient: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxSecurity:
    """CRI LinuxSandboxSecurityContext."""

    namespaces: NamespaceOptions = field(default_factory=NamespaceOptions)
    selinux: SelinuxOptions | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    groups_policy: GroupsPolicy = GroupsPolicy.MERGE
    privileged: bool = False
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None


@dataclass(frozen=True, slots=True)
class ContainerSecurity:
    """CRI LinuxContainerSecurityContext."""

    namespaces: NamespaceOptions = field(default_factory=NamespaceOptions)
    capabilities: Capabilities = field(default_factory=Capabilities)
    privileged: bool = False
    selinux: SelinuxOptions | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    groups_policy: GroupsPolicy = GroupsPolicy.MERGE
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None
