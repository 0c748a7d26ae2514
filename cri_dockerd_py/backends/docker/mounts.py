"""Mounts of a container: their sources prepared on the host, and their form in Docker's create body."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cri_dockerd_py.backends.docker.client import Version
from cri_dockerd_py.errors import InvalidArgument, Unimplemented
from cri_dockerd_py.model.container import Mount, Propagation

_CREATE_MOUNTPOINT_API = (1, 42)
_RECURSIVE_BY_DEFAULT_API = (1, 44)
IMAGE_MOUNT_API = (1, 48)
_PROPAGATION = {Propagation.HOST_TO_CONTAINER: "rslave", Propagation.BIDIRECTIONAL: "rshared"}


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A line of mountinfo: where it is, and whether mounts made below it travel."""

    path: str
    shared: bool
    slave: bool


def check_mounts(mounts: Sequence[Mount], *, recursive_read_only: bool) -> None:
    """Refuse what Docker cannot do (MNT-07, MNT-13)."""
    for mount in mounts:
        if mount.uid_mappings or mount.gid_mappings:
            raise Unimplemented(f"mount of {mount.container_path}: Docker Engine cannot map ids of mounts")
        if not mount.recursive_read_only:
            continue
        if not mount.readonly or mount.propagation is not Propagation.PRIVATE:
            raise InvalidArgument(
                f"mount of {mount.container_path}: recursive_read_only needs readonly and propagation PRIVATE"
            )
        if not recursive_read_only:
            raise InvalidArgument(
                f"RROUnsupported: mount of {mount.container_path}: recursive read-only mounts need Linux 5.12, "
                f"Docker Engine 25 and an OCI runtime that knows rro"
            )


def resolve_sources(mounts: Sequence[Mount]) -> list[Mount]:
    """Return bind mounts with real sources, parents before children (MNT-01 to 03, 09). Blocking; use a thread."""
    table: list[MountInfo] = []
    if any(mount.propagation is not Propagation.PRIVATE for mount in mounts):
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            table = parse_mountinfo(file.read())
    resolved = []
    for mount in sorted(mounts, key=lambda mount: os.path.normpath(mount.container_path).count("/")):
        if mount.image is None:
            mount = replace(mount, host_path=_real_source(mount))
            check_propagation(mount, table)
        resolved.append(mount)
    return resolved


def check_propagation(mount: Mount, table: Sequence[MountInfo]) -> None:
    """Refuse a propagation that the source's mount cannot give (MNT-09)."""
    if mount.propagation is Propagation.PRIVATE:
        return
    holder = _holder(mount.host_path, table)
    if holder is None or holder.shared or (holder.slave and mount.propagation is Propagation.HOST_TO_CONTAINER):
        return
    raise InvalidArgument(
        f"mount of {mount.container_path}: its source {mount.host_path} is on {holder.path}, which is not a shared "
        f"mount, so propagation {mount.propagation.name} is impossible; run: mount --make-rshared {holder.path}"
    )


def parse_mountinfo(text: str) -> list[MountInfo]:
    """Return the mounts of a mountinfo file, in its order."""
    table = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 6 and "-" in fields:
            tags = fields[6 : fields.index("-")]
            shared = any(tag.startswith("shared:") for tag in tags)
            slave = any(tag.startswith("master:") for tag in tags)
            table.append(MountInfo(_unescape(fields[4]), shared, slave))
    return table


def mount_fields(mounts: Sequence[Mount], api: Version, *, selinux: bool) -> dict[str, Any]:
    """Return HostConfig's Mounts, and Binds for those that Docker has to relabel (MNT-12)."""
    images = [mount.image.image_ref for mount in mounts if mount.image]
    if len(set(images)) < len(images):
        raise Unimplemented("Docker Engine cannot mount one image twice in one container: mount it once")
    binds = [mount for mount in mounts if selinux and mount.selinux_relabel and _fits_bind(mount)]
    entries = [
        _image_entry(mount) if mount.image else _bind_entry(mount, api) for mount in mounts if mount not in binds
    ]
    return {"Mounts": entries, **({"Binds": [_bind_text(mount) for mount in binds]} if binds else {})}


def _bind_entry(mount: Mount, api: Version) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if api >= _CREATE_MOUNTPOINT_API:
        options["CreateMountpoint"] = True
    if mount.propagation in _PROPAGATION:
        options["Propagation"] = _PROPAGATION[mount.propagation]
    if mount.readonly and api >= _RECURSIVE_BY_DEFAULT_API:
        options["ReadOnlyForceRecursive" if mount.recursive_read_only else "ReadOnlyNonRecursive"] = True
        if mount.recursive_read_only:
            options["Propagation"] = "rprivate"
    entry: dict[str, Any] = {"Type": "bind", "Source": mount.host_path, "Target": mount.container_path}
    if mount.readonly:
        entry["ReadOnly"] = True
    if options:
        entry["BindOptions"] = options
    return entry


def _image_entry(mount: Mount) -> dict[str, Any]:
    assert mount.image is not None
    entry: dict[str, Any] = {
        "Type": "image",
        "Source": mount.image.image_ref,
        "Target": mount.container_path,
        "ReadOnly": True,
    }
    if mount.image_sub_path:
        entry["ImageOptions"] = {"Subpath": mount.image_sub_path}
    return entry


def _fits_bind(mount: Mount) -> bool:
    return mount.image is None and not mount.recursive_read_only and ":" not in mount.host_path + mount.container_path


def _bind_text(mount: Mount) -> str:
    options = ["ro"] if mount.readonly else []
    options += ["Z"]
    options += [_PROPAGATION[mount.propagation]] if mount.propagation in _PROPAGATION else []
    return f"{mount.host_path}:{mount.container_path}:{','.join(options)}"


def _real_source(mount: Mount) -> str:
    """Follow links, and make a directory where nothing is."""
    try:
        source = os.path.realpath(mount.host_path)
        if not os.path.lexists(source):
            os.makedirs(source, 0o755, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(
            f"mount of {mount.container_path}: {mount.host_path} cannot be used: {error.strerror}"
        ) from error
    return source


def _holder(path: str, table: Sequence[MountInfo]) -> MountInfo | None:
    """Return the mount that `path` is on: of those at the longest prefix, the last, which covers the others."""
    best = None
    for entry in table:
        prefix = entry.path.rstrip("/")
        if (path == prefix or path.startswith(prefix + "/")) and (best is None or len(entry.path) >= len(best.path)):
            best = entry
    return best


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
