"""Mounts on the host, made and taken away by this service. Blocking; use a thread."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.errors import Internal, InvalidArgument

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10
_OPEN_HOW = struct.Struct("QQQ")
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_RDONLY = 0x20, 0x1000, 0x4000, 0x1
_FLAGS = {
    "ro": _MS_RDONLY,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "noatime": 0x400,
    "nodiratime": 0x800,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "bind": _MS_BIND,
    "rbind": _MS_BIND | _MS_REC,
}
_WITHOUT_FLAG = frozenset({"rw", "defaults"})
#: mount(2) takes a page of options, its end mark included.
_DATA_LIMIT_BYTES = 4095
_TOOL_WITHIN_S = 30.0
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_LIBC.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(kind: str, source: str, target: Path, options: Sequence[str]) -> None:
    """Mount as mount(8) would with these options; raises Internal."""
    flags = 0
    data = []
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option not in _WITHOUT_FLAG:
            data.append(option)
    text = ",".join(data)
    if len(os.fsencode(text)) > _DATA_LIMIT_BYTES:
        _mount_from_common_directory(kind, source, target, options)
        return
    _mount(kind, source, target, flags, text)
    if flags & _MS_BIND and flags & ~(_MS_BIND | _MS_REC):
        _mount(kind, source, target, flags & ~_MS_REC | _MS_REMOUNT, "")


def unmount(target: Path) -> None:
    """Take every mount off `target`, at once for new users and later for those who are in it; none is fine."""
    while _LIBC.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
        pass
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise Internal(f"cannot unmount {target}: {os.strerror(ctypes.get_errno())}; unmount it by hand")


def unmount_and_remove(target: Path) -> None:
    """Unmount and remove the mount point; absent is fine."""
    unmount(target)
    with suppress(FileNotFoundError):
        target.rmdir()


def is_mounted(target: Path) -> bool:
    """Look in the mount table: a bind mount within one file system does not show in stat."""
    wanted = os.fsencode(target)
    with open("/proc/self/mountinfo", "rb") as table:
        return any(line.split(b" ", 5)[4] == wanted for line in table)


def children(directory: Path) -> list[Path]:
    """Return what is in a directory, nothing when it is not there."""
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def resolve_beneath(root: str, sub_path: str) -> str:
    """Return the real path of a directory or file below `root`; anything that leads out of it is refused."""
    if not sub_path:
        return root
    if sub_path.startswith("/") or "\0" in sub_path:
        raise InvalidArgument(f"image_sub_path {sub_path[:200]!r} must be relative to the image's root")
    try:
        fd = _open_in(root, sub_path, os.O_PATH, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        raise InvalidArgument(f"image_sub_path {sub_path[:200]!r} cannot be used: {error.strerror}") from error
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def open_in_root(root: str, path: str, flags: int) -> int:
    """Open a path as a process with the root directory `root` would, links included; return a descriptor."""
    return _open_in(root, path.lstrip("/") or ".", flags, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)


def _open_in(root: str, path: str, flags: int, resolve: int) -> int:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, resolve)
        fd = int(_LIBC.syscall(_SYS_OPENAT2, root_fd, os.fsencode(path), how, len(how)))
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        return fd
    finally:
        os.close(root_fd)


def _mount(kind: str, source: str, target: Path, flags: int, data: str) -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(data))
    if _LIBC.mount(*arguments) != 0:
        raise Internal(f"cannot mount {source} ({kind}) at {target}: {os.strerror(ctypes.get_errno())}")


def _mount_from_common_directory(kind: str, source: str, target: Path, options: Sequence[str]) -> None:
    """Let a process in the directory that all layers share mount them by shorter names."""
    lower = next((option for option in options if option.startswith("lowerdir=")), "")
    layers = lower.removeprefix("lowerdir=").split(":")
    directory = os.path.commonpath(layers) if lower else "/"
    shorter = "lowerdir=" + ":".join(os.path.relpath(layer, directory) for layer in layers)
    words = ",".join(shorter if option == lower else option for option in options)
    command = ["mount", "-t", kind, "-o", words, source, str(target)]
    done = subprocess.run(command, cwd=directory, capture_output=True, timeout=_TOOL_WITHIN_S)
    if done.returncode:
        raise Internal(f"cannot mount an image at {target}: {done.stderr.decode(errors='replace').strip()}")
