"""The file system that holds a path: its size, what is free, and the device it is on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from cri_dockerd_py.cgroups.files import read_all

_UPPER = re.compile(r"[ ,]upperdir=(/[^, ]*)")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class FilesystemFigures:
    """`device` is the mount's source, such as /dev/vda1; free counts what an ordinary user may still take."""

    device: str
    size_bytes: int
    free_bytes: int
    inodes: int
    inodes_free: int

    @property
    def used_bytes(self) -> int:
        """What is not free."""
        return max(0, self.size_bytes - self.free_bytes)


def filesystem_of(path: str, mountinfo_path: str = "/proc/self/mountinfo") -> FilesystemFigures | None:
    """Return the figures of the file system that holds `path`; None when it is not there."""
    try:
        info = os.statvfs(path)
    except OSError:
        return None
    mounts = parse_mountinfo(read_all(mountinfo_path) or b"")
    return FilesystemFigures(
        device=_device_of(os.path.realpath(path), mounts),
        size_bytes=info.f_blocks * info.f_frsize,
        free_bytes=info.f_bavail * info.f_frsize,
        inodes=info.f_files,
        inodes_free=info.f_favail,
    )


def overlay_upper_of(pid: int, proc_root: str = "/proc") -> str:
    """Return the host's path of what a process's root file system writes to; "" when it is no overlay, or is gone."""
    data = read_all(f"{proc_root}/{pid}/mountinfo") or b""
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        mount, _, device = line.partition(" - ")
        if mount.split(" ")[4:5] == ["/"]:
            match = _UPPER.search(device) if device.startswith("overlay ") else None
            return _unescape(match[1]) if match else ""
    return ""


def parse_mountinfo(data: bytes) -> dict[str, str]:
    """Return mount point → source; of several mounts on one point the last one counts."""
    result: dict[str, str] = {}
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        mount, separator, device = line.partition(" - ")
        fields, source = mount.split(" "), device.split(" ")
        if separator and len(fields) >= 6 and len(source) >= 2:
            result[_unescape(fields[4])] = _unescape(source[1])
    return result


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _device_of(path: str, mounts: dict[str, str]) -> str:
    """Return the source of the innermost mount that the path lies under."""
    while path not in mounts:
        if path in ("", "/"):
            return "unknown"
        path = path.rpartition("/")[0] or "/"
    return mounts[path]
