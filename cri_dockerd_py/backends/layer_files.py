"""An image's passwd and group files, read from the directories of its layers without leaving them. Blocking."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from cri_dockerd_py.backends.users import FILE_LIMIT_BYTES, UserFiles
from cri_dockerd_py.errors import InvalidArgument

PATHS = ("etc/passwd", "etc/group")
_OPAQUE_XATTR = "trusted.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UnusualLayerError(Exception):
    """A layer that has a link where a file or directory is expected: look through the mounted whole instead."""


def files_in_layers(layers: Sequence[str]) -> UserFiles:
    """Return the files of an image whose layers' directories are given, topmost first."""
    return UserFiles(*[_topmost(layers, path) for path in PATHS])


def _topmost(layers: Sequence[str], path: str) -> str:
    directory, name = path.split("/")
    for layer in layers:
        layer_fd = os.open(layer, _DIRECTORY)
        try:
            found, text = _in_layer(layer_fd, directory, name)
        finally:
            os.close(layer_fd)
        if found:
            return text
    return ""


def _in_layer(layer_fd: int, directory: str, name: str) -> tuple[bool, str]:
    """Return (whether lower layers no longer matter, the file's text)."""
    kind = _kind(layer_fd, directory)
    if kind is None:
        return False, ""
    if not stat.S_ISDIR(kind):
        return _hidden(kind)
    directory_fd = os.open(directory, _DIRECTORY, dir_fd=layer_fd)
    try:
        kind = _kind(directory_fd, name)
        if kind is None:
            return _is_opaque(directory_fd), ""
        if not stat.S_ISREG(kind):
            return _hidden(kind)
        return True, _read_file(directory_fd, name)
    finally:
        os.close(directory_fd)


def _hidden(kind: int) -> tuple[bool, str]:
    """A character device is a whiteout: what lies below is deleted."""
    if stat.S_ISCHR(kind):
        return True, ""
    raise UnusualLayerError


def _kind(directory_fd: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _is_opaque(directory_fd: int) -> bool:
    try:
        return os.getxattr(directory_fd, _OPAQUE_XATTR) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return False
        raise


def _read_file(directory_fd: int, name: str) -> str:
    with open(os.open(name, _FILE, dir_fd=directory_fd), "rb") as file:
        return file_text(file.read(FILE_LIMIT_BYTES + 1), name)


def file_text(content: bytes, path: str) -> str:
    """Return a file's text; InvalidArgument for one that is too large."""
    if len(content) > FILE_LIMIT_BYTES:
        raise InvalidArgument(f"the image's {path} is larger than {FILE_LIMIT_BYTES} bytes; use another image")
    return content.decode("utf-8", "replace")
