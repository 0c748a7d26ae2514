"""Mounts and devices of a container."""

from __future__ import annotations

from collections.abc import Iterable

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.cri.decode.image import image_spec
from cri_dockerd_py.cri.decode.namespaces import id_mappings
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Device, ImageSpec, Mount, Propagation

_LIMIT = 4096


def mounts(field: str, given: Iterable[pb.Mount]) -> tuple[Mount, ...]:
    """Return the mounts in the order in which they were asked for, paths as written (MNT-10)."""
    return tuple(_mount(f"{field}[{index}]", mount) for index, mount in enumerate(fields.few(field, given, _LIMIT)))


def devices(field: str, given: Iterable[pb.Device]) -> tuple[Device, ...]:
    """Return the devices."""
    return tuple(_device(f"{field}[{index}]", device) for index, device in enumerate(fields.few(field, given, _LIMIT)))


def _mount(field: str, given: pb.Mount) -> Mount:
    propagation = _propagation(given.propagation)
    if given.recursive_read_only and (not given.readonly or propagation is not Propagation.PRIVATE):
        raise InvalidArgument(
            f"{field}.recursive_read_only is set without its conditions: set readonly, and propagation PRIVATE"
        )
    return Mount(
        container_path=_container_path(f"{field}.container_path", given.container_path),
        host_path=_host_path(field, given),
        readonly=given.readonly,
        selinux_relabel=given.selinux_relabel,
        propagation=propagation,
        uid_mappings=id_mappings(f"{field}.uidMappings", given.uidMappings),
        gid_mappings=id_mappings(f"{field}.gidMappings", given.gidMappings),
        recursive_read_only=given.recursive_read_only,
        image=_image(field, given),
        image_sub_path=fields.confined_relative_path(f"{field}.image_sub_path", given.image_sub_path),
    )


def _propagation(given: int) -> Propagation:
    """Return the propagation; an unknown value means PRIVATE (MNT-09)."""
    return Propagation(given) if given in list(Propagation) else Propagation.PRIVATE


def _container_path(field: str, value: str) -> str:
    if not fields.absolute_path(field, value).strip("/."):
        fields.refuse(field, value, "a mount cannot replace the container's root file system")
    return value


def _host_path(field: str, given: pb.Mount) -> str:
    if not given.HasField("image"):
        return fields.absolute_path(f"{field}.host_path", given.host_path)
    if given.host_path:
        fields.refuse(f"{field}.host_path", given.host_path, "leave it empty when an image is mounted")
    return ""


def _image(field: str, given: pb.Mount) -> ImageSpec | None:
    if not given.HasField("image"):
        if given.image_sub_path:
            fields.refuse(f"{field}.image_sub_path", given.image_sub_path, "it is for mounts of images only")
        return None
    if not given.readonly:
        raise InvalidArgument(f"{field}: an image is mounted read-only: set readonly")
    return image_spec(f"{field}.image", given.image)


def _device(field: str, given: pb.Device) -> Device:
    if not given.permissions or set(given.permissions) - set("rwm"):
        fields.refuse(f"{field}.permissions", given.permissions, "give one or more of r, w and m")
    return Device(
        container_path=fields.absolute_path(f"{field}.container_path", given.container_path),
        host_path=fields.absolute_path(f"{field}.host_path", given.host_path),
        permissions=given.permissions,
    )
