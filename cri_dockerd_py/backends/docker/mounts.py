"""Mounts of a container: their sources prepared on the host, and their form in Docker's create body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cri_dockerd_py.backends.docker.client import Version
from cri_dockerd_py.errors import InvalidArgument, Unimplemented
from cri_dockerd_py.model.container import Mount, Propagation

_CREATE_MOUNTPOINT_API = (1, 42)
_RECURSIVE_BY_DEFAULT_API = (1, 44)
IMAGE_MOUNT_API = (1, 48)
_PROPAGATION = {Propagation.HOST_TO_CONTAINER: "rslave", Propagation.BIDIRECTIONAL: "rshared"}


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
