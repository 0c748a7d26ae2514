"""Pod sandboxes: what was asked (spec), what is (record)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.security import NamespaceMode, SandboxSecurity


class SandboxState(IntEnum):
    """READY goes to NOTREADY once and never back (SBS-06); the numbers are the wire's."""

    READY = 0
    NOTREADY = 1


class Protocol(IntEnum):
    """Transport protocol of a port mapping, with the wire's numbers."""

    TCP = 0
    UDP = 1
    SCTP = 2


@dataclass(frozen=True, slots=True)
class PodMetadata:
    """Identity of a sandbox: the four together are unique on a node (RUN-02)."""

    name: str
    uid: str
    namespace: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """Lines of the pod's resolv.conf, in order."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A container port, published on the host when `host_port` is not 0."""

    protocol: Protocol
    container_port: int
    host_port: int = 0
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What RunPodSandbox asked for; immutable for the sandbox's life."""

    metadata: PodMetadata
    hostname: str = ""
    log_directory: str = ""
    dns: DnsConfig | None = None
    port_mappings: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    security: SandboxSecurity = field(default_factory=SandboxSecurity)
    overhead: Resources | None = None
    resources: Resources | None = None
    runtime_handler: str = ""

    @property
    def host_network(self) -> bool:
        """Whether the pod lives in the node's network namespace."""
        return self.security.namespaces.network is NamespaceMode.NODE


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """A sandbox as it is now. `pid` is 0 unless its pause process runs; `ips` are in the network's order."""

    id: str
    spec: SandboxSpec
    state: SandboxState
    created_at_ns: int
    engine: str
    pid: int = 0
    ips: tuple[str, ...] = ()
    netns_path: str = ""
