"""Images read from containerd's content store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager

from cri_dockerd_py._generated.containerd_v1.content_pb2 import Info, ReadContentRequest
from cri_dockerd_py.backends.containerd import gc_labels
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.images import ContainerdImages
from cri_dockerd_py.backends.image_transfer import ImageBlobs, ImageSource, LayerBlob
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.errors import NotFound, Unimplemented
from cri_dockerd_py.model.image import ImageRecord

_ANY_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"


class ContainerdImageSource(ImageSource):
    """The images of one containerd namespace."""

    def __init__(self, client: ContainerdClient, images: ContainerdImages) -> None:
        self._client = client
        self._images = images
        self._content = Content(client)

    async def blobs(self, image: ImageRecord) -> ImageBlobs:
        """Return configuration and layers; NotFound when a layer is kept only unpacked."""
        config = await self._content.read(image.id)
        layers, diff_ids = await self._images.layers_of(image.id)
        return ImageBlobs(
            config, tuple([await self._layer(one, diff_id) for one, diff_id in zip(layers, diff_ids, strict=True)])
        )

    def archive(self, image: ImageRecord) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Refuse: blobs are what this store has."""
        raise Unimplemented("containerd's images are read blob by blob")

    async def _layer(self, layer: Descriptor, diff_id: str) -> LayerBlob:
        if await self._content.info(layer.digest) is not None:
            return self._blob(layer.media_type, layer.digest, layer.size, diff_id)
        # An image below may have the same layer, packed in another way.
        async for info in self._content.list([f'labels."{gc_labels.UNCOMPRESSED}"=={diff_id}']):
            return self._same(info, diff_id)
        raise NotFound(f"layer {layer.digest} is on this node only unpacked: pull the image on the other engine")

    def _same(self, info: Info, diff_id: str) -> LayerBlob:
        return self._blob(_ANY_LAYER_TYPE, info.digest, info.size, diff_id)

    def _blob(self, media_type: str, digest: str, size: int, diff_id: str) -> LayerBlob:
        return LayerBlob(media_type, digest, size, diff_id, lambda offset: self._read(digest, offset))

    async def _read(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        request = ReadContentRequest(digest=digest, offset=offset)
        answers = self._client.stream(self._client.content.Read, request, for_ever=True)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer.data
