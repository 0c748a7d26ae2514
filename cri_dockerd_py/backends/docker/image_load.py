"""Images put into Docker, as `docker load` does, from blobs of another store of this node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from cri_dockerd_py.backends.archive_stream import END, Member, header, padding
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker_archive import MANIFEST
from cri_dockerd_py.backends.image_transfer import ImageBlobs, ImageSink, LayerBlob, Note
from cri_dockerd_py.distribution.descriptor import digest_of
from cri_dockerd_py.errors import NotFound, Unknown
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.image_ref import parse_reference

_LOAD = "/images/load"
_TAR_TYPE = "application/x-tar"
_LOAD_WITHIN_S = 600.0
_SLOWEST_BYTES_PER_S = 1e6


class DockerImageSink(ImageSink):
    """Loads images; Docker checks every layer against the configuration.

    Docker takes no digests of registries from an archive: they have to be remembered elsewhere.
    """

    def __init__(self, client: DockerClient) -> None:
        self._client = client

    async def store(self, image: ImageRecord, blobs: ImageBlobs, note: Note) -> str:
        """Load an image, and tag it."""
        image_id = digest_of(blobs.config)
        if await self._find(image_id) is None:
            size = sum(layer.size for layer in blobs.layers)
            await self._load(_archive(image, blobs, note), size)
        return await self._finish(image, image_id)

    async def store_archive(self, image: ImageRecord, archive: AsyncIterator[bytes], note: Note) -> str:
        """Load an image from an archive as it is."""

        async def noted() -> AsyncIterator[bytes]:
            async for chunk in archive:
                note(len(chunk))
                yield chunk

        await self._load(noted(), image.size_bytes)
        return await self._finish(image, image.id)

    async def room_bytes(self) -> int:
        """Return what is free on the file system of Docker's data."""
        info = await self._client.get("/info")
        state = await asyncio.to_thread(os.statvfs, info["DockerRootDir"])
        return state.f_bavail * state.f_frsize

    async def _load(self, archive: AsyncIterator[bytes], size: int) -> None:
        within_s = _LOAD_WITHIN_S + size / _SLOWEST_BYTES_PER_S
        await self._client.upload(_LOAD, archive, content_type=_TAR_TYPE, within_s=within_s)

    async def _find(self, name: str) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = await self._client.get("/images/{}/json", name)
        except NotFound:
            return None
        return document

    async def _finish(self, image: ImageRecord, image_id: str) -> str:
        """Give the image its tags, and return its id."""
        if await self._find(image_id) is None:
            raise Unknown(f"Docker has taken image {image_id} and does not know it by its id")
        for text in image.repo_tags:
            reference = parse_reference(text)
            params = {"repo": reference.familiar_repository, "tag": reference.tag}
            await self._client.post("/images/{}/tag", image_id, params=params)
        return image_id


async def _archive(image: ImageRecord, blobs: ImageBlobs, note: Note) -> AsyncIterator[bytes]:
    """Yield an archive as `docker load` takes it."""
    config_name = f"{digest_of(blobs.config).removeprefix('sha256:')}.json"
    names = [f"{layer.digest.removeprefix('sha256:')}/layer.tar" for layer in blobs.layers]
    entry = {"Config": config_name, "RepoTags": [_familiar(tag) for tag in image.repo_tags], "Layers": names}
    for name, content in ((MANIFEST, json.dumps([entry]).encode()), (config_name, blobs.config)):
        yield header(Member(name, len(content), is_file=True)) + content + padding(len(content))
    for name, layer in dict(zip(names, blobs.layers, strict=True)).items():
        yield header(Member(name, layer.size, is_file=True))
        async for chunk in _exactly(layer):
            note(len(chunk))
            yield chunk
        yield padding(layer.size)
    yield END


async def _exactly(layer: LayerBlob) -> AsyncIterator[bytes]:
    left = layer.size
    async with contextlib.aclosing(layer.read(0)) as chunks:
        async for chunk in chunks:
            left -= len(chunk)
            yield chunk
    if left:
        raise Unknown(f"layer {layer.digest} has {-left} bytes more than it should have")


def _familiar(tag: str) -> str:
    return parse_reference(tag).familiar
