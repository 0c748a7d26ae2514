"""Devices of the host: links resolved, directories expanded (DEV-01). Blocking; use a thread."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Device

# Kernel file systems below /dev whose entries are no devices of the host
_SKIPPED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def expand_device(device: Device) -> Iterator[tuple[str, str]]:
    """Yield (path on the host, path in the container) of a device, or of every device in a directory."""
    source = os.path.realpath(device.host_path)
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise InvalidArgument(f"device {device.host_path} cannot be used: {error.strerror}") from error
    if is_device(mode):
        yield source, device.container_path
    elif stat.S_ISDIR(mode):
        for path in devices_below(source):
            yield path, posixpath.join(device.container_path, os.path.relpath(path, source))
    else:
        raise InvalidArgument(f"device {device.host_path} is neither a device nor a directory of devices")


def devices_below(directory: str) -> Iterator[str]:
    """Yield the paths of all devices in a directory and below it, in order; what goes away meanwhile is left out."""
    for parent, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if name not in _SKIPPED)
        for name in sorted(files):
            path = os.path.join(parent, name)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                continue
            if is_device(mode):
                yield path


def is_device(mode: int) -> bool:
    """Whether a file of this mode is a character or block device."""
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
