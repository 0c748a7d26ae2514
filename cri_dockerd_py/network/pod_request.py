"""What a pod asks of the network, and how that is said to plugins."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.sandbox import DnsConfig, PortMapping
from cri_dockerd_py.network.bandwidth import bandwidth_capability
from cri_dockerd_py.network.cni_conf import is_name

_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class PodNetworkRequest:
    """A pod to set up or to tear down. For a teardown the id is enough; the rest helps where no cache file is left."""

    sandbox_id: str
    pod_name: str = ""
    pod_namespace: str = ""
    pod_uid: str = ""
    netns_path: str | None = None
    port_mappings: tuple[PortMapping, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    dns: DnsConfig | None = None
    aliases: tuple[str, ...] = ()
    cgroup_path: str = ""


def check_request(request: PodNetworkRequest) -> None:
    """Refuse what would break file names, CNI_ARGS or a plugin's environment."""
    if not is_name(request.sandbox_id):
        raise InvalidArgument(f"sandbox id {request.sandbox_id[:80]!r}: CNI wants letters, digits, '_', '.', '-'")
    for what, text in cni_args(request):
        if any(not character.isprintable() or character in ";=" for character in text):
            raise InvalidArgument(f"{what} {text[:80]!r} cannot be passed in CNI_ARGS: it has ';', '=' or unprintables")
    if request.netns_path and "\0" in request.netns_path:
        raise InvalidArgument("the path of the network namespace has a NUL byte")


def cni_args(request: PodNetworkRequest) -> tuple[tuple[str, str], ...]:
    """Return CNI_ARGS in the order that plugins have always seen."""
    return (
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", request.pod_namespace),
        ("K8S_POD_NAME", request.pod_name),
        ("K8S_POD_INFRA_CONTAINER_ID", request.sandbox_id),
        ("K8S_POD_UID", request.pod_uid),
    )


def capability_args(request: PodNetworkRequest, pod_cidrs: tuple[str, ...]) -> dict[str, Any]:
    """Return the value of every capability that the pod has a use for; plugins get those that they declare."""
    args: dict[str, Any] = {}
    if mappings := [_port_mapping(mapping) for mapping in request.port_mappings if mapping.host_port]:
        args["portMappings"] = mappings
    if limits := bandwidth_capability(request.annotations):
        args["bandwidth"] = limits
    if request.dns is not None:
        args["dns"] = {
            "servers": list(request.dns.servers),
            "searches": list(request.dns.searches),
            "options": list(request.dns.options),
        }
    if pod_cidrs:
        args["ipRanges"] = [[{"subnet": cidr}] for cidr in pod_cidrs]
    if request.aliases:
        args["aliases"] = list(request.aliases)
    if request.annotations:
        args["io.kubernetes.cri.pod-annotations"] = dict(request.annotations)
    if request.cgroup_path:
        args["cgroupPath"] = request.cgroup_path
    return args


def parse_pod_cidrs(text: str) -> tuple[str, ...]:
    """Return the node's pod ranges from kubelet's comma-separated text: one, or one of each family."""
    cidrs = []
    for part in text.split(","):
        try:
            if "/" not in part:
                raise ValueError(f"{part.strip()!r} has no prefix length")
            cidrs.append(ipaddress.ip_network(part.strip(), strict=False))
        except ValueError as error:
            raise InvalidArgument(
                f"pod CIDR {text[:120]!r}: {error}; write it like 10.1.2.0/24,fd00:1:2::/64"
            ) from error
    if len(cidrs) > 2 or len({cidr.version for cidr in cidrs}) != len(cidrs):
        raise InvalidArgument(f"pod CIDR {text[:120]!r}: give at most one IPv4 and one IPv6 range")
    return tuple(str(cidr) for cidr in cidrs)


def _port_mapping(mapping: PortMapping) -> dict[str, Any]:
    if not 0 < mapping.host_port <= _MAX_PORT or not 0 < mapping.container_port <= _MAX_PORT:
        raise InvalidArgument(f"port mapping {mapping.host_port}:{mapping.container_port}: ports are 1 to {_MAX_PORT}")
    if mapping.host_ip:
        try:
            ipaddress.ip_address(mapping.host_ip)
        except ValueError as error:
            raise InvalidArgument(
                f"port mapping {mapping.host_port}: host IP {mapping.host_ip[:80]!r}: {error}"
            ) from error
    return {
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol.name.lower(),
        "hostIP": mapping.host_ip,
    }
