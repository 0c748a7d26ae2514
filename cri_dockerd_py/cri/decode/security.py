"""Security contexts of sandboxes and containers."""

from __future__ import annotations

from collections.abc import Iterable

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.cri.decode.capabilities import capabilities
from cri_dockerd_py.cri.decode.namespaces import container_namespaces, sandbox_namespaces
from cri_dockerd_py.cri.decode.profiles import apparmor, seccomp
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import ContainerSecurity, GroupsPolicy, SandboxSecurity, SelinuxOptions

_ID_LIMIT = 2**32 - 2
_GROUPS_LIMIT = 65536  # the kernel's NGROUPS_MAX
_PATHS_LIMIT = 1024


def sandbox_security(field: str, given: pb.LinuxSandboxSecurityContext) -> SandboxSecurity:
    """Return the security context of a sandbox; a group without a user is dropped, as only pods' defaults have it."""
    user = _id(f"{field}.run_as_user", given.run_as_user) if given.HasField("run_as_user") else None
    group = _id(f"{field}.run_as_group", given.run_as_group) if given.HasField("run_as_group") else None
    return SandboxSecurity(
        namespaces=sandbox_namespaces(f"{field}.namespace_options", given.namespace_options),
        selinux=_selinux(f"{field}.selinux_options", given.selinux_options),
        run_as_user=user,
        run_as_group=None if user is None else group,
        readonly_rootfs=given.readonly_rootfs,
        supplemental_groups=_groups(f"{field}.supplemental_groups", given.supplemental_groups),
        groups_policy=_groups_policy(field, given.supplemental_groups_policy),
        privileged=given.privileged,
        seccomp=seccomp(field, given.seccomp if given.HasField("seccomp") else None, given.seccomp_profile_path),
        apparmor=apparmor(field, given.apparmor if given.HasField("apparmor") else None, ""),
    )


def container_security(field: str, given: pb.LinuxContainerSecurityContext) -> ContainerSecurity:
    """Return the security context of a container."""
    username = _username(f"{field}.run_as_username", given.run_as_username)
    user = _id(f"{field}.run_as_user", given.run_as_user) if given.HasField("run_as_user") else None
    group = _id(f"{field}.run_as_group", given.run_as_group) if given.HasField("run_as_group") else None
    if group is not None and user is None and not username:
        raise InvalidArgument(f"{field}.run_as_group is set without a user: set run_as_user or run_as_username as well")
    return ContainerSecurity(
        namespaces=container_namespaces(f"{field}.namespace_options", given.namespace_options),
        capabilities=capabilities(f"{field}.capabilities", given.capabilities),
        privileged=given.privileged,
        selinux=_selinux(f"{field}.selinux_options", given.selinux_options),
        run_as_user=None if username else user,
        run_as_group=group,
        run_as_username=username,
        readonly_rootfs=given.readonly_rootfs,
        supplemental_groups=_groups(f"{field}.supplemental_groups", given.supplemental_groups),
        groups_policy=_groups_policy(field, given.supplemental_groups_policy),
        no_new_privs=given.no_new_privs,
        masked_paths=_paths(f"{field}.masked_paths", given.masked_paths),
        readonly_paths=_paths(f"{field}.readonly_paths", given.readonly_paths),
        seccomp=seccomp(field, given.seccomp if given.HasField("seccomp") else None, given.seccomp_profile_path),
        apparmor=apparmor(field, given.apparmor if given.HasField("apparmor") else None, given.apparmor_profile),
    )


def _id(field: str, given: pb.Int64Value) -> int:
    return fields.number(field, given.value, 0, _ID_LIMIT)


def _groups(field: str, given: Iterable[int]) -> tuple[int, ...]:
    groups = enumerate(fields.few(field, given, _GROUPS_LIMIT))
    return tuple(fields.number(f"{field}[{index}]", group, 0, _ID_LIMIT) for index, group in groups)


def _groups_policy(field: str, given: int) -> GroupsPolicy:
    return fields.member(f"{field}.supplemental_groups_policy", given, GroupsPolicy)


def _username(field: str, given: str) -> str:
    if given and ":" in fields.word(field, given):
        fields.refuse(field, given, "give the user's name alone; the group goes to run_as_group")
    return given


def _selinux(field: str, given: pb.SELinuxOption) -> SelinuxOptions | None:
    parts = {part: getattr(given, part) for part in ("user", "role", "type", "level") if getattr(given, part)}
    for part, value in parts.items():
        fields.word(f"{field}.{part}", value, limit=1024)
    return SelinuxOptions(**parts) if parts else None


def _paths(field: str, given: Iterable[str]) -> tuple[str, ...]:
    paths = enumerate(fields.few(field, given, _PATHS_LIMIT))
    return tuple(fields.absolute_path(f"{field}[{index}]", path) for index, path in paths)
