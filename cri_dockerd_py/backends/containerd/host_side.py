"""What a container's spec needs from the host: sources made, devices and profiles read. Blocking; use a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cri_dockerd_py.backends.cdi.edits import CdiEdits
from cri_dockerd_py.backends.cdi.names import cdi_names
from cri_dockerd_py.backends.cdi.specs import resolve_cdi
from cri_dockerd_py.backends.containerd.oci.facts import DeviceNode
from cri_dockerd_py.backends.containerd.oci.inputs import Profiles
from cri_dockerd_py.backends.devices import devices_below, expand_device
from cri_dockerd_py.backends.mount_sources import resolve_sources
from cri_dockerd_py.backends.mount_table import MountInfo, parse_mountinfo
from cri_dockerd_py.backends.profiles import loaded_apparmor_profiles, read_seccomp_document
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import ContainerSpec, Device, Mount, Propagation
from cri_dockerd_py.model.security import ProfileType, SecurityProfile

_DEVICES_LIMIT = 4096
_DEV = "/dev"
_CONSOLE = "/dev/console"
_LOCALHOST = "localhost/"
_MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class HostSide:
    """The parts of `ContainerInputs` of the same names."""

    mounts: Sequence[Mount] = ()
    mount_table: Sequence[MountInfo] = ()
    devices: Sequence[DeviceNode] = ()
    host_devices: Sequence[DeviceNode] = ()
    cdi: CdiEdits = field(default_factory=CdiEdits)
    profiles: Profiles = field(default_factory=Profiles)


def host_side(spec: ContainerSpec) -> HostSide:
    """Return what one container needs; InvalidArgument for a device, source or profile that cannot be used.

    Mounts of images pass through as they are.
    """
    names = cdi_names(spec.cdi_devices, spec.annotations)
    privileged = spec.security.privileged
    return HostSide(
        mounts=resolve_sources(spec.mounts),
        mount_table=_mount_table(spec.mounts),
        devices=asked_devices(spec.devices),
        host_devices=host_devices() if privileged else (),
        cdi=resolve_cdi(names) if names else CdiEdits(),
        profiles=read_profiles(None if privileged else spec.security.seccomp, spec.security.apparmor),
    )


def read_profiles(seccomp: SecurityProfile | None, apparmor: SecurityProfile | None) -> Profiles:
    """Return the documents of Localhost profiles; nothing is read for the other kinds."""
    document, loaded = None, None
    if seccomp is not None and seccomp.kind is ProfileType.LOCALHOST:
        document = read_seccomp_document(seccomp.localhost_ref.removeprefix(_LOCALHOST))
    if apparmor is not None and apparmor.kind is ProfileType.LOCALHOST:
        loaded = loaded_apparmor_profiles()
    return Profiles(document, loaded)


def asked_devices(devices: Iterable[Device]) -> list[DeviceNode]:
    """Return the nodes of a request's devices, which keep their host's owners (DEV-02)."""
    nodes = [
        _node(source, path, device.permissions or "rwm") for device in devices for source, path in expand_device(device)
    ]
    if len(nodes) > _DEVICES_LIMIT:
        raise InvalidArgument(f"{len(nodes)} devices; at most {_DEVICES_LIMIT} are allowed")
    return nodes


def host_devices() -> list[DeviceNode]:
    """Return all devices of the host, but for its console; those that go away meanwhile are left out."""
    nodes = []
    for path in devices_below(_DEV):
        if path != _CONSOLE:
            try:
                nodes.append(_node(path, path, "rwm"))
            except InvalidArgument:
                continue
    return nodes


def _node(source: str, path: str, permissions: str) -> DeviceNode:
    try:
        found = os.stat(source, follow_symlinks=False)
    except OSError as error:
        raise InvalidArgument(f"device {source} cannot be used: {error.strerror}") from error
    return DeviceNode(
        path=path,
        type="b" if stat.S_ISBLK(found.st_mode) else "c",
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        permissions=permissions,
    )


def _mount_table(mounts: Iterable[Mount]) -> list[MountInfo]:
    if all(mount.propagation is Propagation.PRIVATE for mount in mounts):
        return []
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file.read())
