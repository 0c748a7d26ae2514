"""The extension of a sandbox's record, in the CRI plugin's JSON: either of the two can read what the other wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.backends.containerd.go_json import (
    Document,
    decode_namespaces,
    decode_profile,
    decode_resources,
    decode_selinux,
    each,
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
from cri_dockerd_py.model.sandbox import DnsConfig, PodMetadata, PortMapping, Protocol, SandboxSpec
from cri_dockerd_py.model.security import GroupsPolicy, SandboxSecurity

EXTENSION = "io.cri-containerd.sandbox.metadata"
TYPE_URL = "github.com/containerd/cri/pkg/store/sandbox/Metadata"
VERSION = "v1"


@dataclass(frozen=True, slots=True)
class SandboxMetadata:
    """A sandbox as its record's extension tells it. `cni_result` is the plugin's form of what CNI answered."""

    id: str
    name: str
    spec: SandboxSpec
    netns_path: str = ""
    ips: tuple[str, ...] = ()
    cni_result: Mapping[str, Any] | None = None
    process_label: str = ""


def encode_sandbox(metadata: SandboxMetadata) -> bytes:
    """Return the extension's value."""
    document = {
        "ID": metadata.id,
        "Name": metadata.name,
        "Config": encode_config(metadata.spec),
        "NetNSPath": metadata.netns_path,
        "IP": metadata.ips[0] if metadata.ips else "",
        "AdditionalIPs": list(metadata.ips[1:]) or None,
        "RuntimeHandler": metadata.spec.runtime_handler,
        "CNIResult": metadata.cni_result,
        "ProcessLabel": metadata.process_label,
    }
    return versioned(document)


def decode_sandbox(content: bytes) -> SandboxMetadata:
    """Read the extension's value; raises ValueError when it is not of this form."""
    document = unversioned(content)
    ips = [str(document.get("IP") or ""), *(document.get("AdditionalIPs") or ())]
    return SandboxMetadata(
        id=str(document["ID"]),
        name=str(document.get("Name") or ""),
        spec=decode_config(message(document, "Config"), str(document.get("RuntimeHandler") or "")),
        netns_path=str(document.get("NetNSPath") or ""),
        ips=tuple(str(ip) for ip in ips if ip),
        cni_result=document.get("CNIResult"),
        process_label=str(document.get("ProcessLabel") or ""),
    )


def versioned(document: Document) -> bytes:
    """Return a metadata document in the frame that names its version."""
    return json.dumps({"Version": VERSION, "Metadata": document}, separators=(",", ":")).encode()


def unversioned(content: bytes) -> Document:
    """Return the metadata document in a frame; raises ValueError for a version that is not known."""
    frame = json.loads(content)
    if not isinstance(frame, dict) or frame.get("Version") != VERSION or not isinstance(frame.get("Metadata"), dict):
        raise ValueError(f"metadata of version {frame.get('Version') if isinstance(frame, dict) else None!r}")
    document: Document = frame["Metadata"]
    return document


# --- PodSandboxConfig


def encode_config(spec: SandboxSpec) -> dict[str, Any]:
    """Return a PodSandboxConfig."""
    metadata = spec.metadata
    return filled(
        metadata=filled(name=metadata.name, uid=metadata.uid, namespace=metadata.namespace, attempt=metadata.attempt),
        hostname=spec.hostname,
        log_directory=spec.log_directory,
        dns_config=None if spec.dns is None else _encode_dns(spec.dns),
        port_mappings=[_encode_port(mapping) for mapping in spec.port_mappings],
        labels=dict(spec.labels) or None,
        annotations=dict(spec.annotations) or None,
        linux=_encode_linux(spec),
    )


def decode_config(document: Document, runtime_handler: str) -> SandboxSpec:
    """Read a PodSandboxConfig."""
    metadata, linux = message(document, "metadata"), message(document, "linux")
    dns = document.get("dns_config")
    return SandboxSpec(
        metadata=PodMetadata(
            name=str(metadata["name"]),
            uid=str(metadata.get("uid", "")),
            namespace=str(metadata.get("namespace", "")),
            attempt=int(metadata.get("attempt", 0)),
        ),
        hostname=str(document.get("hostname", "")),
        log_directory=str(document.get("log_directory", "")),
        dns=_decode_dns(dns) if isinstance(dns, Mapping) else None,
        port_mappings=each(document, "port_mappings", _decode_port),
        labels=text_map(document, "labels"),
        annotations=text_map(document, "annotations"),
        cgroup_parent=str(linux.get("cgroup_parent", "")),
        sysctls=text_map(linux, "sysctls"),
        security=_decode_security(message(linux, "security_context")),
        overhead=decode_resources(linux["overhead"]) if linux.get("overhead") else None,
        resources=decode_resources(linux["resources"]) if linux.get("resources") else None,
        runtime_handler=runtime_handler,
    )


def _encode_dns(dns: DnsConfig) -> dict[str, Any]:
    return filled(servers=list(dns.servers), searches=list(dns.searches), options=list(dns.options))


def _decode_dns(document: Document) -> DnsConfig:
    return DnsConfig(texts(document, "servers"), texts(document, "searches"), texts(document, "options"))


def _encode_port(mapping: PortMapping) -> dict[str, Any]:
    return filled(
        protocol=int(mapping.protocol),
        container_port=mapping.container_port,
        host_port=mapping.host_port,
        host_ip=mapping.host_ip,
    )


def _decode_port(document: Document) -> PortMapping:
    return PortMapping(
        Protocol(document.get("protocol", 0)),
        int(document.get("container_port", 0)),
        int(document.get("host_port", 0)),
        str(document.get("host_ip", "")),
    )


def _encode_linux(spec: SandboxSpec) -> dict[str, Any]:
    return filled(
        cgroup_parent=spec.cgroup_parent,
        security_context=_encode_security(spec.security),
        sysctls=dict(spec.sysctls) or None,
        overhead=None if spec.overhead is None else encode_resources(spec.overhead),
        resources=None if spec.resources is None else encode_resources(spec.resources),
    )


def _encode_security(security: SandboxSecurity) -> dict[str, Any]:
    return filled(
        namespace_options=encode_namespaces(security.namespaces),
        selinux_options=encode_selinux(security.selinux),
        run_as_user=wrap_int(security.run_as_user),
        run_as_group=wrap_int(security.run_as_group),
        readonly_rootfs=security.readonly_rootfs,
        supplemental_groups=list(security.supplemental_groups),
        supplemental_groups_policy=int(security.groups_policy),
        privileged=security.privileged,
        seccomp=encode_profile(security.seccomp),
        apparmor=encode_profile(security.apparmor),
    )


def _decode_security(document: Document) -> SandboxSecurity:
    return SandboxSecurity(
        namespaces=decode_namespaces(message(document, "namespace_options")),
        selinux=decode_selinux(message(document, "selinux_options")),
        run_as_user=unwrap_int(document, "run_as_user"),
        run_as_group=unwrap_int(document, "run_as_group"),
        readonly_rootfs=bool(document.get("readonly_rootfs")),
        supplemental_groups=each(document, "supplemental_groups", int),
        groups_policy=GroupsPolicy(document.get("supplemental_groups_policy", 0)),
        privileged=bool(document.get("privileged")),
        seccomp=decode_profile(document.get("seccomp"), document.get("seccomp_profile_path")),
        apparmor=decode_profile(document.get("apparmor"), ""),
    )
