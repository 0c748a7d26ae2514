"""Reads files of a root file system that nobody has mounted, in the layers themselves. Blocking; use a thread.

The layers are walked as overlayfs would: upper ones first, whiteouts and opaque directories honoured, links followed
within the root. Nothing outside of the layers is ever opened: every step is one name, without following it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from cri_dockerd_py.backends.users import FILE_LIMIT_BYTES, UserFiles
from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument

_LINKS_LIMIT = 40
_NAMES_LIMIT = 4096
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


class RootMount(Protocol):
    """A mount as a snapshotter describes it."""

    @property
    def type(self) -> str:
        """`overlay`, `bind`, or a file system on a device."""

    @property
    def source(self) -> str:
        """The directory of a bind mount."""

    @property
    def options(self) -> Sequence[str]:
        """Mount options."""


class NeedsMountError(Exception):
    """The snapshotter's mounts show no directories: mount them, and read by the `layers` of the mounted root."""


def layers_of(mounts: Sequence[RootMount]) -> list[str]:
    """Return the directories that make up a root file system, topmost first."""
    if len(mounts) != 1:
        raise NeedsMountError
    mount = mounts[0]
    if mount.type == "overlay":
        return _overlay_layers(mount.options)
    if mount.type == "bind" or (not mount.type and {"bind", "rbind"} & set(mount.options)):
        return [mount.source]
    raise NeedsMountError


def read_user_files(layers: Sequence[str]) -> UserFiles:
    """Return the texts of /etc/passwd and /etc/group, empty where the root has none."""
    texts = [read_file(layers, path).decode("utf-8", "replace") for path in ("/etc/passwd", "/etc/group")]
    return UserFiles(*texts)


def read_file(layers: Sequence[str], path: str) -> bytes:
    """Return the content of a regular file; empty when nothing is there, InvalidArgument for anything else."""
    with ExitStack() as held:
        try:
            walk = _Walk(held, layers)
        except OSError as error:
            raise FailedPrecondition(f"a layer of the image cannot be read: {error}; pull the image again") from error
        try:
            descriptor = walk.open(path)
        except OSError as error:
            raise InvalidArgument(f"the image's {path} cannot be read: {error.strerror}") from error
        if descriptor is None:
            return b""
        with open(descriptor, "rb") as file:
            content = file.read(FILE_LIMIT_BYTES + 1)
    if len(content) > FILE_LIMIT_BYTES:
        raise InvalidArgument(f"the image's {path} is larger than {FILE_LIMIT_BYTES} bytes; use another image")
    return content


class _Walk:
    """One look-up. A directory is the descriptors of it in the layers that have it, topmost first."""

    def __init__(self, held: ExitStack, layers: Sequence[str]) -> None:
        self._held = held
        self._root = tuple(self._keep(os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) for layer in layers)

    def open(self, path: str) -> int | None:
        """Return a descriptor of the regular file at `path`, the caller's to close; None when nothing is there."""
        way = [self._root]
        names = path.split("/")[::-1]
        links = 0
        while names:
            name = names.pop()
            if name == "..":
                way = way[:-1] or way
            elif name not in ("", "."):
                found = self._look(way[-1], name)
                if found is None:
                    return None
                mode, places = found
                if stat.S_ISDIR(mode):
                    way.append(places)
                elif stat.S_ISLNK(mode):
                    links += 1
                    target = os.readlink(name, dir_fd=places[0])
                    if links > _LINKS_LIMIT or len(names) > _NAMES_LIMIT:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    way = [self._root] if target.startswith("/") else way
                    names += target.split("/")[::-1]
                elif any(names):
                    return None
                elif stat.S_ISREG(mode):
                    return os.open(name, _FILE, dir_fd=places[0])
                else:
                    raise OSError(errno.EINVAL, "it is no ordinary file")
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _look(self, directory: tuple[int, ...], name: str) -> tuple[int, tuple[int, ...]] | None:
        """Return (mode, the directory itself, or the one layer's directory that holds anything else)."""
        merged: list[int] = []
        for layer in directory:
            try:
                found = os.stat(name, dir_fd=layer, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                whiteout = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
                if merged or whiteout:
                    break
                return found.st_mode, (layer,)
            merged.append(self._keep(os.open(name, _DIRECTORY, dir_fd=layer)))
            if _is_opaque(merged[-1]):
                break
        return (stat.S_IFDIR, tuple(merged)) if merged else None

    def _keep(self, descriptor: int) -> int:
        self._held.callback(os.close, descriptor)
        return descriptor


def _is_opaque(directory: int) -> bool:
    """Whether lower layers do not show through; a directory that was renamed cannot be followed here."""
    if _xattr(directory, "redirect"):
        raise OSError(errno.EXDEV, "a directory was renamed by overlayfs")
    return _xattr(directory, "opaque") == b"y"


def _xattr(directory: int, name: str) -> bytes:
    for prefix in _OVERLAY_XATTRS:
        try:
            return os.getxattr(directory, prefix + name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                raise
    return b""


def _overlay_layers(options: Sequence[str]) -> list[str]:
    """Return the upper directory, if there is one, and the lower ones."""
    values = dict(option.partition("=")[::2] for option in options)
    lower = [re.sub(r"\\(.)", r"\1", path) for path in re.split(r"(?<!\\):", values.get("lowerdir", ""))]
    layers = [path for path in (values.get("upperdir", ""), *lower) if path]
    if not all(os.path.isabs(path) for path in layers):
        raise NeedsMountError
    return layers
