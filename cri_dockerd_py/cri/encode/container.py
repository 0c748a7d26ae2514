"""Container records to list items and statuses (CST, LCT)."""

from __future__ import annotations

from typing import cast

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.encode.resources import linux_resources
from cri_dockerd_py.cri.encode.security import id_mappings
from cri_dockerd_py.cri.encode.text import clean
from cri_dockerd_py.model.container import ContainerMetadata, ContainerRecord, ContainerUser, ImageSpec, Mount


def container_metadata(metadata: ContainerMetadata) -> pb.ContainerMetadata:
    """Return a container's name and attempt."""
    return pb.ContainerMetadata(name=metadata.name, attempt=metadata.attempt)


def container_item(record: ContainerRecord) -> pb.Container:
    """Return the item of a list; its image is named as it was at create (LCT-03)."""
    return pb.Container(
        id=record.id,
        pod_sandbox_id=record.sandbox_id,
        metadata=container_metadata(record.spec.metadata),
        image=_image_spec(record.spec.image, record.spec.image.image),
        image_ref=record.image_ref,
        state=cast("pb.ContainerState", record.state),
        created_at=record.created_at_ns,
        labels=record.spec.labels,
        annotations=record.spec.annotations,
        image_id=record.image_id,
    )


def container_status(record: ContainerRecord) -> pb.ContainerStatus:
    """Return the status; the mounts are those that were asked for (MNT-10)."""
    return pb.ContainerStatus(
        id=record.id,
        metadata=container_metadata(record.spec.metadata),
        state=cast("pb.ContainerState", record.state),
        created_at=record.created_at_ns,
        started_at=record.started_at_ns,
        finished_at=record.finished_at_ns,
        exit_code=exit_code(record.exit_code),
        image=_image_spec(record.spec.image, record.image_name),
        image_ref=record.image_ref,
        reason=clean(record.reason),
        message=clean(record.message),
        labels=record.spec.labels,
        annotations=record.spec.annotations,
        mounts=[_mount(mount) for mount in record.spec.mounts],
        log_path=clean(record.log_path),
        resources=pb.ContainerResources(linux=linux_resources(record.resources)),
        image_id=record.image_id,
        user=None if record.user is None else _user(record.user),
        stop_signal=cast("pb.Signal", record.stop_signal),
    )


def exit_code(code: int) -> int:
    """Return an exit code that the wire can hold: of runtimes for VMs, engines tell a negative one without its sign."""
    return (code + 2**31) % 2**32 - 2**31


def _image_spec(spec: ImageSpec, image: str) -> pb.ImageSpec:
    return pb.ImageSpec(
        image=image,
        annotations=spec.annotations,
        user_specified_image=spec.user_specified_image,
        runtime_handler=spec.runtime_handler,
        image_ref=spec.image_ref,
    )


def _mount(mount: Mount) -> pb.Mount:
    return pb.Mount(
        container_path=mount.container_path,
        host_path=mount.host_path,
        readonly=mount.readonly,
        selinux_relabel=mount.selinux_relabel,
        propagation=cast("pb.MountPropagation", mount.propagation),
        uidMappings=id_mappings(mount.uid_mappings),
        gidMappings=id_mappings(mount.gid_mappings),
        recursive_read_only=mount.recursive_read_only,
        image=None if mount.image is None else _image_spec(mount.image, mount.image.image),
        image_sub_path=mount.image_sub_path,
    )


def _user(user: ContainerUser) -> pb.ContainerUser:
    return pb.ContainerUser(
        linux=pb.LinuxContainerUser(uid=user.uid, gid=user.gid, supplemental_groups=user.supplemental_groups)
    )
