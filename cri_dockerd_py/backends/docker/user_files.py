"""Reads an image's passwd and group files, once per image, without following anything out of its layers."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Mapping
from typing import Any

from cri_dockerd_py.backends.docker.answers import read_start
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.image_looks import ImageLooks
from cri_dockerd_py.backends.known_user_files import KnownUserFiles
from cri_dockerd_py.backends.layer_files import PATHS, UnusualLayerError, file_text, files_in_layers
from cri_dockerd_py.backends.users import FILE_LIMIT_BYTES, UserFiles
from cri_dockerd_py.errors import InvalidArgument, NotFound

_ARCHIVE = "/containers/{}/archive"
_HEADERS_BYTES = 16 << 10


class ImageUserFiles:
    """`files` is cheap from the second time on."""

    def __init__(self, client: DockerClient, looks: ImageLooks) -> None:
        self._client = client
        self._looks = looks
        self._known = KnownUserFiles()

    async def files(self, image_id: str) -> UserFiles:
        """Return the image's files."""
        known = self._known.get(image_id)
        if known is None:
            known = await self._read(image_id)
            self._known.keep(image_id, known)
        return known

    async def _read(self, image_id: str) -> UserFiles:
        document = await self._client.get("/images/{}/json", image_id)
        layers = layer_dirs(document)
        if layers:
            try:
                return await asyncio.to_thread(files_in_layers, layers)
            except UnusualLayerError:
                pass
        return await self._looks.look(image_id, self._copied)

    async def _copied(self, container_id: str) -> UserFiles:
        return UserFiles(*[await self._copy(container_id, path) for path in PATHS])

    async def _copy(self, container_id: str, path: str) -> str:
        try:
            async with self._client.download(_ARCHIVE, container_id, params={"path": f"/{path}"}) as response:
                content = await read_start(response, f"GET {_ARCHIVE}", FILE_LIMIT_BYTES + _HEADERS_BYTES)
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


def _first_file(archive: bytes, path: str) -> str:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.isreg() else None
            return file_text(file.read(FILE_LIMIT_BYTES + 1), path) if file is not None else ""
    except tarfile.TarError as error:
        raise InvalidArgument(f"the image's /{path} cannot be read: {error}") from error
