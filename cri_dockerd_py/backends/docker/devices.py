"""Devices of a container: links resolved, directories expanded (DEV-01). Blocking; use a thread."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Device

_DEVICES_LIMIT = 4096
# Kernel file systems below /dev whose entries are no devices of the host
_SKIPPED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def device_entries(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Return the entries of HostConfig.Devices."""
    entries = [entry for device in devices for entry in _expand(device)]
    if len(entries) > _DEVICES_LIMIT:
        raise InvalidArgument(f"{len(entries)} devices; at most {_DEVICES_LIMIT} are allowed")
    return entries


def _expand(device: Device) -> Iterator[dict[str, Any]]:
    source = os.path.realpath(device.host_path)
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise InvalidArgument(f"device {device.host_path} cannot be used: {error.strerror}") from error
    if _is_device(mode):
        yield _entry(source, device.container_path, device.permissions)
    elif stat.S_ISDIR(mode):
        for path in _devices_below(source):
            inside = posixpath.join(device.container_path, os.path.relpath(path, source))
            yield _entry(path, inside, device.permissions)
    else:
        raise InvalidArgument(f"device {device.host_path} is neither a device nor a directory of devices")


def _devices_below(directory: str) -> Iterator[str]:
    for parent, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if name not in _SKIPPED)
        for name in sorted(files):
            path = os.path.join(parent, name)
            if _is_device(os.lstat(path).st_mode):
                yield path


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _entry(host_path: str, container_path: str, permissions: str) -> dict[str, Any]:
    return {"PathOnHost": host_path, "PathInContainer": container_path, "CgroupPermissions": permissions or "rwm"}
