"""What is left: filters, paths and numbers of the smaller requests."""

from __future__ import annotations

import ipaddress

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxState

_SECONDS_LIMIT = 2**31 - 1


def sandbox_state(given: pb.PodSandboxFilter) -> SandboxState | None:
    """Return the state to look for, None for any."""
    return fields.member("filter.state.state", given.state.state, SandboxState) if given.HasField("state") else None


def container_state(given: pb.ContainerFilter) -> ContainerState | None:
    """Return the state to look for, None for any."""
    return fields.member("filter.state.state", given.state.state, ContainerState) if given.HasField("state") else None


def seconds(value: int) -> int:
    """Return a time of at least 0 s; below it means the same as 0 (STO-02, EXS-05)."""
    return min(max(value, 0), _SECONDS_LIMIT)


def checkpoint_timeout(value: int) -> int:
    """Return a checkpoint's time limit (CKP-03)."""
    return min(fields.number("timeout", value, 0, 2**63 - 1), _SECONDS_LIMIT)


def checkpoint_location(value: str) -> str:
    """Return the path of the archive to write."""
    return fields.confined_absolute_path("location", value)


def pod_cidr(config: pb.RuntimeConfig) -> str:
    """Return the pod CIDRs, separated by commas; empty when the caller has none to tell (STA-22)."""
    field, value = "runtime_config.network_config.pod_cidr", config.network_config.pod_cidr
    parts = [part.strip() for part in fields.plain(field, value, limit=fields.NAME_LIMIT).split(",")] if value else []
    for part in parts:
        try:
            ipaddress.ip_network(part, strict=False)
        except ValueError:
            fields.refuse(field, value, "give one CIDR such as 10.1.0.0/16, or several with commas between them")
    return ",".join(parts)
