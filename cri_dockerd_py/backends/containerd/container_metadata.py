"""The extension of a container's record, in the CRI plugin's JSON: either of the two can read what the other wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.backends.containerd.go_json import (
    Document,
    decode_capabilities,
    decode_mapping,
    decode_namespaces,
    decode_profile,
    decode_resources,
    decode_selinux,
    each,
    encode_capabilities,
    encode_mappings,
    encode_namespaces,
    encode_profile,
    encode_resources,
    encode_selinux,
    filled,
    message,
    text_map,
    texts,
    unwrap_int,
    wrap_int,
)
from cri_dockerd_py.backends.containerd.sandbox_metadata import unversioned, versioned
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, Device, ImageSpec, Mount, Propagation
from cri_dockerd_py.model.security import ContainerSecurity, GroupsPolicy

EXTENSION = "io.cri-containerd.container.metadata"
TYPE_URL = "github.com/containerd/cri/pkg/store/container/Metadata"


@dataclass(frozen=True, slots=True)
class ContainerRecordMetadata:
    """A container as its record's extension tells it. `stop_signal` is the image's, such as SIGTERM, or empty."""

    id: str
    name: str
    sandbox_id: str
    spec: ContainerSpec
    image_id: str
    log_path: str = ""
    stop_signal: str = ""
    process_label: str = ""


def encode_container(metadata: ContainerRecordMetadata) -> bytes:
    """Return the extension's value; the environment is in it, as it is in the record's own spec."""
    return versioned(
        {
            "ID": metadata.id,
            "Name": metadata.name,
            "SandboxID": metadata.sandbox_id,
            "Config": encode_config(metadata.spec),
            "ImageRef": metadata.image_id,
            "LogPath": metadata.log_path,
            "StopSignal": metadata.stop_signal,
            "ProcessLabel": metadata.process_label,
        }
    )


def decode_container(content: bytes) -> ContainerRecordMetadata:
    """Read the extension's value, without the environment; raises ValueError when it is not of this form."""
    document = unversioned(content)
    return ContainerRecordMetadata(
        id=str(document["ID"]),
        name=str(document.get("Name") or ""),
        sandbox_id=str(document["SandboxID"]),
        spec=decode_config(message(document, "Config")),
        image_id=str(document.get("ImageRef") or ""),
        log_path=str(document.get("LogPath") or ""),
        stop_signal=str(document.get("StopSignal") or ""),
        process_label=str(document.get("ProcessLabel") or ""),
    )


# --- ContainerConfig


def encode_config(spec: ContainerSpec) -> dict[str, Any]:
    """Return a ContainerConfig."""
    return filled(
        metadata=filled(name=spec.metadata.name, attempt=spec.metadata.attempt),
        image=_encode_image(spec.image),
        command=list(spec.command),
        args=list(spec.args),
        working_dir=spec.working_dir,
        envs=[filled(key=_text(key), value=_text(value)) for key, value in spec.envs],
        mounts=[_encode_mount(mount) for mount in spec.mounts],
        devices=[_encode_device(device) for device in spec.devices],
        labels=dict(spec.labels) or None,
        annotations=dict(spec.annotations) or None,
        log_path=spec.log_path,
        stdin=spec.stdin,
        stdin_once=spec.stdin_once,
        tty=spec.tty,
        linux=filled(resources=encode_resources(spec.resources), security_context=_encode_security(spec.security)),
        CDI_devices=[{"name": name} for name in spec.cdi_devices],
        stop_signal=spec.stop_signal,
    )


def decode_config(document: Document) -> ContainerSpec:
    """Read a ContainerConfig, without its environment."""
    metadata, linux = message(document, "metadata"), message(document, "linux")
    return ContainerSpec(
        metadata=ContainerMetadata(str(metadata["name"]), int(metadata.get("attempt", 0))),
        image=_decode_image(message(document, "image")),
        command=texts(document, "command"),
        args=texts(document, "args"),
        working_dir=str(document.get("working_dir", "")),
        mounts=each(document, "mounts", _decode_mount),
        devices=each(document, "devices", _decode_device),
        cdi_devices=each(document, "CDI_devices", lambda item: str(item.get("name", ""))),
        labels=text_map(document, "labels"),
        annotations=text_map(document, "annotations"),
        log_path=str(document.get("log_path", "")),
        stdin=bool(document.get("stdin")),
        stdin_once=bool(document.get("stdin_once")),
        tty=bool(document.get("tty")),
        stop_signal=int(document.get("stop_signal", 0)),
        resources=decode_resources(message(linux, "resources")),
        security=_decode_security(message(linux, "security_context")),
    )


def _text(value: str) -> str:
    """Return a text that JSON can hold: bytes that are not UTF-8 are only in the record's own spec."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _encode_image(image: ImageSpec) -> dict[str, Any]:
    return filled(
        image=image.image,
        annotations=dict(image.annotations) or None,
        user_specified_image=image.user_specified_image,
        runtime_handler=image.runtime_handler,
        image_ref=image.image_ref,
    )


def _decode_image(document: Document) -> ImageSpec:
    return ImageSpec(
        image=str(document.get("image", "")),
        annotations=text_map(document, "annotations"),
        user_specified_image=str(document.get("user_specified_image", "")),
        runtime_handler=str(document.get("runtime_handler", "")),
        image_ref=str(document.get("image_ref", "")),
    )


def _encode_mount(mount: Mount) -> dict[str, Any]:
    return filled(
        container_path=mount.container_path,
        host_path=mount.host_path,
        readonly=mount.readonly,
        selinux_relabel=mount.selinux_relabel,
        propagation=int(mount.propagation),
        uidMappings=encode_mappings(mount.uid_mappings),
        gidMappings=encode_mappings(mount.gid_mappings),
        recursive_read_only=mount.recursive_read_only,
        image=None if mount.image is None else _encode_image(mount.image),
        image_sub_path=mount.image_sub_path,
    )


def _decode_mount(document: Document) -> Mount:
    image = document.get("image")
    propagation = document.get("propagation", 0)
    return Mount(
        container_path=str(document.get("container_path", "")),
        host_path=str(document.get("host_path", "")),
        readonly=bool(document.get("readonly")),
        selinux_relabel=bool(document.get("selinux_relabel")),
        propagation=Propagation(propagation) if propagation in list(Propagation) else Propagation.PRIVATE,
        uid_mappings=each(document, "uidMappings", decode_mapping),
        gid_mappings=each(document, "gidMappings", decode_mapping),
        recursive_read_only=bool(document.get("recursive_read_only")),
        image=_decode_image(image) if isinstance(image, Mapping) else None,
        image_sub_path=str(document.get("image_sub_path", "")),
    )


def _encode_device(device: Device) -> dict[str, Any]:
    return filled(container_path=device.container_path, host_path=device.host_path, permissions=device.permissions)


def _decode_device(document: Document) -> Device:
    return Device(
        str(document.get("container_path", "")),
        str(document.get("host_path", "")),
        str(document.get("permissions", "")),
    )


def _encode_security(security: ContainerSecurity) -> dict[str, Any]:
    return filled(
        capabilities=encode_capabilities(security.capabilities),
        privileged=security.privileged,
        namespace_options=encode_namespaces(security.namespaces),
        selinux_options=encode_selinux(security.selinux),
        run_as_user=wrap_int(security.run_as_user),
        run_as_group=wrap_int(security.run_as_group),
        run_as_username=security.run_as_username,
        readonly_rootfs=security.readonly_rootfs,
        supplemental_groups=list(security.supplemental_groups),
        supplemental_groups_policy=int(security.groups_policy),
        no_new_privs=security.no_new_privs,
        masked_paths=list(security.masked_paths),
        readonly_paths=list(security.readonly_paths),
        seccomp=encode_profile(security.seccomp),
        apparmor=encode_profile(security.apparmor),
    )


def _decode_security(document: Document) -> ContainerSecurity:
    return ContainerSecurity(
        namespaces=decode_namespaces(message(document, "namespace_options")),
        capabilities=decode_capabilities(message(document, "capabilities")),
        privileged=bool(document.get("privileged")),
        selinux=decode_selinux(message(document, "selinux_options")),
        run_as_user=unwrap_int(document, "run_as_user"),
        run_as_group=unwrap_int(document, "run_as_group"),
        run_as_username=str(document.get("run_as_username", "")),
        readonly_rootfs=bool(document.get("readonly_rootfs")),
        supplemental_groups=each(document, "supplemental_groups", int),
        groups_policy=GroupsPolicy(document.get("supplemental_groups_policy", 0)),
        no_new_privs=bool(document.get("no_new_privs")),
        masked_paths=texts(document, "masked_paths"),
        readonly_paths=texts(document, "readonly_paths"),
        seccomp=decode_profile(document.get("seccomp"), document.get("seccomp_profile_path")),
        apparmor=decode_profile(document.get("apparmor"), document.get("apparmor_profile")),
    )
