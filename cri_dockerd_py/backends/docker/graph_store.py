"""Images read from the directories of Docker's overlay2 driver, without the daemon's help.

`docker save` makes the daemon write every image to a temporary directory and pack it from there; here each byte is
read once, from where the layers are, and what can be left out is not read at all. Every layer is verified by digest
where it goes. Where this cannot be done (another storage driver, a layout that is not known), the daemon's archives
are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.tar_split import TarSplit
from cri_dockerd_py.backends.image_transfer import ImageBlobs, ImageSource, LayerBlob
from cri_dockerd_py.errors import NotFound, Unavailable, Unimplemented
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.layers import chain_ids
from cri_dockerd_py.network.settle import settle_call

LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
_DRIVER = "overlay2"
_CONTAINERD_DRIVER = "io.containerd.snapshotter.v1"
_CONTAINERD_NAMESPACE = "moby"
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_CACHE_ID = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_SILENT_FOR_S = 600.0


@dataclass(frozen=True, slots=True)
class _GraphLayer:
    diff_id: str
    tar: TarSplit
    size: int


class DockerImageSource(ImageSource):
    """Docker's images in a graph driver, or in whatever way the daemon exports them."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client

    async def blobs(self, image: ImageRecord) -> ImageBlobs:
        """Return configuration and layers as they are on the disk."""
        info = await self._client.get("/info")
        if info.get("Driver") != _DRIVER:
            raise Unimplemented(f"Docker's storage driver is {info.get('Driver')}: only {_DRIVER} can be read directly")
        document = await self._client.get("/images/{}/json", image.id)
        diff_ids = (document.get("RootFS") or {}).get("Layers") or []
        root = Path(info["DockerRootDir"])
        config, layers = await asyncio.to_thread(_read, root, image.id, diff_ids)
        return ImageBlobs(config, tuple(_blob(layer) for layer in layers))

    def archive(self, image: ImageRecord) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open an image as the daemon exports it."""
        return self._export(image)

    @contextlib.asynccontextmanager
    async def _export(self, image: ImageRecord) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._client.download("/images/{}/get", image.id, for_ever=True) as response:
            yield _in_time(response.content.iter_chunked(_CHUNK_BYTES))


async def _in_time(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield chunks, as long as the daemon goes on; it packs the whole image before the first one."""
    try:
        while True:
            async with asyncio.timeout(_SILENT_FOR_S):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk
    except TimeoutError:
        raise Unavailable(f"Docker has sent nothing of an image for {_SILENT_FOR_S:g} s") from None


async def containerd_namespace(client: DockerClient) -> str:
    """Return the containerd namespace that Docker keeps its images in, "" when they are in a graph driver."""
    info = await client.get("/info")
    status = {pair[0]: pair[1] for pair in info.get("DriverStatus") or ()}
    if status.get("driver-type") != _CONTAINERD_DRIVER:
        return ""
    namespaces = (info.get("Containerd") or {}).get("Namespaces") or {}
    return str(namespaces.get("Containers") or _CONTAINERD_NAMESPACE)


def _read(root: Path, image_id: str, diff_ids: list[Any]) -> tuple[bytes, list[_GraphLayer]]:
    """Read an image's configuration, and find its layers."""
    if not _SHA256.fullmatch(image_id) or not all(_SHA256.fullmatch(str(diff_id)) for diff_id in diff_ids):
        raise Unimplemented(f"image {image_id} has names that are not known here")
    database = root / "image" / _DRIVER
    try:
        config = (database / "imagedb" / "content" / image_id.replace(":", "/")).read_bytes()
        return config, [
            _layer(root, database, diff_id, chain_id)
            for diff_id, chain_id in zip(diff_ids, chain_ids(diff_ids), strict=True)
        ]
    except FileNotFoundError as error:
        if not root.is_dir():
            raise NotFound(f"Docker's directory {root} is not on this node") from error
        raise Unimplemented(f"image {image_id} is not where it is expected: {error}") from error
    except (OSError, KeyError, ValueError) as error:
        raise Unimplemented(f"image {image_id} cannot be read from Docker's directories: {error}") from error


def _layer(root: Path, database: Path, diff_id: str, chain_id: str) -> _GraphLayer:
    notes = database / "layerdb" / chain_id.replace(":", "/")
    cache_id = (notes / "cache-id").read_text().strip()
    if not _CACHE_ID.fullmatch(cache_id) or (notes / "diff").read_text().strip() != diff_id:
        raise ValueError(f"layer {chain_id} is not what its notes say")
    tar = TarSplit(notes / "tar-split.json.gz", root / _DRIVER / cache_id / "diff")
    return _GraphLayer(diff_id, tar, tar.size_bytes())


def _blob(layer: _GraphLayer) -> LayerBlob:
    return LayerBlob(LAYER_TYPE, layer.diff_id, layer.size, layer.diff_id, lambda offset: _chunks(layer.tar, offset))


async def _chunks(tar: TarSplit, offset: int) -> AsyncGenerator[bytes, None]:
    """Yield a layer's tar, each chunk made in a thread; whoever leaves waits for the one that is being made."""
    chunks = tar.read(offset)
    making: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            making = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
            chunk = await asyncio.shield(making)
            if chunk is None:
                return
            yield chunk
    finally:
        await settle_call(_close(chunks, making), "end of reading a layer")


async def _close(chunks: Generator[bytes, None, None], making: asyncio.Future[bytes | None] | None) -> None:
    if making is not None:
        await asyncio.wait((making,))
    await asyncio.to_thread(chunks.close)
