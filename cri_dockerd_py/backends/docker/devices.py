"""Devices of a container in Docker's form. Blocking; use a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cri_dockerd_py.backends.devices import expand_device
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Device

_DEVICES_LIMIT = 4096


def device_entries(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Return the entries of HostConfig.Devices."""
    entries = [
        {"PathOnHost": source, "PathInContainer": path, "CgroupPermissions": device.permissions or "rwm"}
        for device in devices
        for source, path in expand_device(device)
    ]
    if len(entries) > _DEVICES_LIMIT:
        raise InvalidArgument(f"{len(entries)} devices; at most {_DEVICES_LIMIT} are allowed")
    return entries
