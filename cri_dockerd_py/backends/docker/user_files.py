"""Reads an image's passwd and group files, once per image, without following anything out of its layers."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import tarfile
from collections.abc import Mapping
from typing import Any

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.users import UserFiles
from cri_dockerd_py.errors import InvalidArgument, NotFound

_LIMIT_BYTES = 1 << 20
_IMAGES_LIMIT = 512
_PATHS = ("etc/passwd", "etc/group")
_OPAQUE_XATTR = "trusted.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _UnusualLayerError(Exception):
    """A layer that has a link where a file or directory is expected: let Docker look through its own file system."""


class ImageUserFiles:
    """`files` is cheap from the second time on: an image never changes."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._known: dict[str, UserFiles] = {}

    async def files(self, image_id: str) -> UserFiles:
        """Return the image's files."""
        known = self._known.get(image_id)
        if known is None:
            known = await self._read(image_id)
            if len(self._known) >= _IMAGES_LIMIT:
                self._known.clear()
            self._known[image_id] = known
        return known

    async def _read(self, image_id: str) -> UserFiles:
        document = await self._client.get("/images/{}/json", image_id)
        layers = layer_dirs(document)
        if layers:
            try:
                return await asyncio.to_thread(_from_layers, layers)
            except _UnusualLayerError:
                pass
        return await self._through_container(image_id)

    async def _through_container(self, image_id: str) -> UserFiles:
        """Copy the files out of a container that is made for this and never started."""
        body = {"Image": image_id, "Entrypoint": ["-"], "HostConfig": {"NetworkMode": "none"}}
        created = await self._client.post("/containers/create", body=body)
        try:
            return UserFiles(*[await self._copy(created["Id"], path) for path in _PATHS])
        finally:
            await self._client.delete("/containers/{}", created["Id"], params={"force": "1", "v": "1"})

    async def _copy(self, container_id: str, path: str) -> str:
        try:
            async with self._client.download(
                "/containers/{}/archive", container_id, params={"path": f"/{path}"}
            ) as response:
                content = await response.content.read(_LIMIT_BYTES + 1024)
        except NotFound:
            return ""
        return await asyncio.to_thread(_first_file, content, path)


def layer_dirs(document: Mapping[str, Any]) -> list[str]:
    """Return the directories of an image's layers, topmost first; empty where the storage has no such directories."""
    driver = document.get("GraphDriver") or {}
    data = driver.get("Data") or {}
    if driver.get("Name") != "overlay2" or not data.get("UpperDir"):
        return []
    return [data["UpperDir"], *(path for path in (data.get("LowerDir") or "").split(":") if path)]


def _from_layers(layers: list[str]) -> UserFiles:
    return UserFiles(*[_topmost(layers, path) for path in _PATHS])


def _topmost(layers: list[str], path: str) -> str:
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
    raise _UnusualLayerError


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
        return _text(file.read(_LIMIT_BYTES + 1), name)


def _first_file(archive: bytes, path: str) -> str:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.isreg() else None
            return _text(file.read(_LIMIT_BYTES + 1), path) if file is not None else ""
    except tarfile.TarError as error:
        raise InvalidArgument(f"the image's /{path} cannot be read: {error}") from error


def _text(content: bytes, path: str) -> str:
    if len(content) > _LIMIT_BYTES:
        raise InvalidArgument(f"the image's {path} is larger than {_LIMIT_BYTES} bytes; use another image")
    return content.decode("utf-8", "replace")
