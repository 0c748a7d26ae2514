"""PodSandboxConfig to SandboxSpec."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.cri.decode.resources import resources
from cri_dockerd_py.cri.decode.security import sandbox_security
from cri_dockerd_py.cri.decode.sysctls import sysctls
from cri_dockerd_py.model.sandbox import DnsConfig, PodMetadata, PortMapping, Protocol, SandboxSpec

_HOSTNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOSTNAME_LIMIT = 64  # the kernel's HOST_NAME_MAX
_PORTS = 65535
_DNS_ENTRIES = 64


def sandbox_spec(config: pb.PodSandboxConfig, runtime_handler: str) -> SandboxSpec:
    """Return what RunPodSandbox asks for."""
    if not config.HasField("metadata"):
        fields.missing("config.metadata", "give the pod's name, uid, namespace and attempt")
    linux = config.linux
    security = sandbox_security("config.linux.security_context", linux.security_context)
    return SandboxSpec(
        metadata=_metadata(config.metadata),
        hostname=_hostname(config.hostname),
        log_directory=log_directory("config.log_directory", config.log_directory),
        dns=_dns(config.dns_config) if config.HasField("dns_config") else None,
        port_mappings=_port_mappings(config.port_mappings),
        labels=fields.text_map("config.labels", config.labels),
        annotations=fields.text_map("config.annotations", config.annotations),
        cgroup_parent=_cgroup_parent(linux.cgroup_parent),
        sysctls=sysctls("config.linux.sysctls", linux.sysctls, security.namespaces),
        security=security,
        overhead=resources("config.linux.overhead", linux.overhead) if linux.HasField("overhead") else None,
        resources=resources("config.linux.resources", linux.resources) if linux.HasField("resources") else None,
        runtime_handler=fields.plain("runtime_handler", runtime_handler, limit=fields.NAME_LIMIT),
    )


def pull_sandbox(config: pb.PodSandboxConfig) -> SandboxSpec:
    """Return what PullImage may know of the pod; metadata may be absent there (IMG-39)."""
    given = config.metadata
    return SandboxSpec(
        metadata=PodMetadata(given.name, given.uid, given.namespace, given.attempt),
        labels=fields.text_map("sandbox_config.labels", config.labels),
        annotations=fields.text_map("sandbox_config.annotations", config.annotations),
    )


def _metadata(metadata: pb.PodSandboxMetadata) -> PodMetadata:
    return PodMetadata(
        name=fields.name("config.metadata.name", metadata.name),
        uid=fields.name("config.metadata.uid", metadata.uid),
        namespace=fields.name("config.metadata.namespace", metadata.namespace),
        attempt=metadata.attempt,
    )


def _hostname(value: str) -> str:
    if value and (len(value) > _HOSTNAME_LIMIT or not _HOSTNAME.fullmatch(value)):
        rule = f"use at most {_HOSTNAME_LIMIT} letters, digits, '-', '_' and '.', beginning with a letter or digit"
        fields.refuse("config.hostname", value, rule)
    return value


def log_directory(field: str, value: str) -> str:
    """Return where a pod's logs go, empty when it has none."""
    return fields.confined_absolute_path(field, value) if value else ""


def _cgroup_parent(value: str) -> str:
    field = "config.linux.cgroup_parent"
    if ".." in fields.plain(field, value).split("/"):
        fields.refuse(field, value, "the path must not contain '..'")
    return value


def _dns(config: pb.DNSConfig) -> DnsConfig:
    servers = fields.words("config.dns_config.servers", config.servers, count=_DNS_ENTRIES)
    for index, server in enumerate(servers):
        fields.ip_address(f"config.dns_config.servers[{index}]", server)
    return DnsConfig(
        servers=servers,
        searches=fields.words("config.dns_config.searches", config.searches, count=_DNS_ENTRIES, limit=255),
        options=fields.words("config.dns_config.options", config.options, count=_DNS_ENTRIES, limit=255),
    )


def _port_mappings(mappings: Iterable[pb.PortMapping]) -> tuple[PortMapping, ...]:
    return tuple(_port_mapping(f"config.port_mappings[{index}]", mapping) for index, mapping in enumerate(mappings))


def _port_mapping(field: str, mapping: pb.PortMapping) -> PortMapping:
    host_port = fields.number(f"{field}.host_port", mapping.host_port, 0, _PORTS)
    lowest = 1 if host_port else 0
    return PortMapping(
        protocol=fields.member(f"{field}.protocol", mapping.protocol, Protocol),
        container_port=fields.number(f"{field}.container_port", mapping.container_port, lowest, _PORTS),
        host_port=host_port,
        host_ip=fields.ip_address(f"{field}.host_ip", mapping.host_ip) if mapping.host_ip else "",
    )
