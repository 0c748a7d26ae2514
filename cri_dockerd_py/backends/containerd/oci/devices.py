"""Devices of a container, and the rules of its device cgroup (DEV-01, DEV-03)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cri_dockerd_py.backends.containerd.oci.facts import DeviceNode, HandlerOptions

DENY_ALL = {"allow": False, "access": "rwm"}
_ALLOW_ALL = {"allow": True, "access": "rwm"}


def device_nodes(
    asked: Sequence[DeviceNode], host: Sequence[DeviceNode], handler: HandlerOptions, *, privileged: bool
) -> list[DeviceNode]:
    """Return the devices to make: those asked for, and in a privileged container those of the host."""
    with_host = privileged and not handler.privileged_without_host_devices
    return list({node.path: node for node in [*(host if with_host else ()), *asked]}.values())


def device_rules(asked: Iterable[DeviceNode], handler: HandlerOptions, *, privileged: bool) -> list[dict[str, Any]]:
    """Return the rules: nothing but what was asked for, or everything for a privileged container."""
    all_allowed = privileged and (
        not handler.privileged_without_host_devices or handler.privileged_without_host_devices_all_devices_allowed
    )
    if all_allowed:
        return [dict(_ALLOW_ALL)]
    return [dict(DENY_ALL), *map(device_rule, asked)]


def device_rule(node: DeviceNode) -> dict[str, Any]:
    """Return the rule that allows what was asked for on a device."""
    return {
        "allow": True,
        "type": node.type,
        "major": node.major,
        "minor": node.minor,
        "access": node.permissions,
    }


def device_entry(node: DeviceNode) -> dict[str, Any]:
    """Return the entry of `linux.devices`."""
    return {
        "path": node.path,
        "type": node.type,
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
    }
