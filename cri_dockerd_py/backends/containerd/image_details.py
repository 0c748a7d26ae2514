"""What an image is, read from its blobs once: they never change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor as WireDescriptor
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig, parse_image_config
from cri_dockerd_py.distribution.descriptor import Descriptor, Platform
from cri_dockerd_py.distribution.media_types import Kind, kind_of
from cri_dockerd_py.distribution.platform import in_order
from cri_dockerd_py.distribution.pulled_image import PulledImage
from cri_dockerd_py.distribution.rules.documents import BadDocument, parse_config, parse_index, parse_manifest
from cri_dockerd_py.errors import InvalidArgument, NotFound, Unknown
from cri_dockerd_py.model.layers import chain_ids

_LOG = logging.getLogger(__name__)
_READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """The image for this node's platform; `size_bytes` counts its blobs as registries keep them."""

    id: str
    layers: tuple[Descriptor, ...]
    config: ImageConfig
    size_bytes: int

    @property
    def chain_id(self) -> str:
        """The snapshot that has all layers, "" for an image without any."""
        chain = chain_ids(self.config.diff_ids)
        return chain[-1] if chain else ""

    @property
    def zstd(self) -> bool:
        """Whether a layer is packed with zstd."""
        return any(layer.media_type.endswith((".zstd", "+zstd")) for layer in self.layers)


def details_of(image: PulledImage) -> ImageDetails:
    """Return what a pull has already read."""
    blobs = {blob.digest: blob.size for blob in (image.target, image.manifest, image.config)}
    size_bytes = sum(blobs.values()) + sum(layer.size for layer in image.layers)
    return ImageDetails(image.config.digest, image.layers, parse_image_config(image.config_bytes), size_bytes)


class ImageReader:
    """Reads images for `platform`, and remembers them by the digest of what their names stand for."""

    def __init__(self, content: Content, platform: Platform) -> None:
        self._content = content
        self._platform = platform
        self._known: dict[str, ImageDetails] = {}

    def put(self, target_digest: str, details: ImageDetails) -> None:
        """Remember an image that need not be read."""
        self._known[target_digest] = details

    def keep_only(self, target_digests: Collection[str]) -> None:
        """Forget all images but these."""
        self._known = {digest: details for digest, details in self._known.items() if digest in target_digests}

    def by_id(self, image_id: str) -> ImageDetails | None:
        """Return an image from memory."""
        return next((details for details in self._known.values() if details.id == image_id), None)

    async def read_all(self, targets: Sequence[WireDescriptor]) -> Mapping[str, ImageDetails]:
        """Return {target digest: image}, without those that are no image that this node could run."""
        slots = asyncio.Semaphore(_READS_AT_ONCE)
        by_digest = {target.digest: target for target in targets}
        found = await asyncio.gather(*(self._read(target, slots) for target in by_digest.values()))
        return {digest: details for digest, details in zip(by_digest, found, strict=True) if details is not None}

    async def _read(self, target: WireDescriptor, slots: asyncio.Semaphore) -> ImageDetails | None:
        known = self._known.get(target.digest)
        if known is None:
            async with slots:
                known = await self._read_anew(Descriptor(target.media_type, target.digest, target.size))
        if known is not None:
            self._known[target.digest] = known
        return known

    async def _read_anew(self, target: Descriptor) -> ImageDetails | None:
        try:
            if kind_of(target.media_type) is not Kind.INDEX:
                return await self._read_manifest(target, 0)
            index = parse_index(await self._content.read(target.digest), target.media_type)
            for manifest in in_order(index.manifests, self._platform):
                if await self._content.info(manifest.digest) is not None:
                    return await self._read_manifest(manifest, target.size)
        except (NotFound, Unknown, BadDocument, InvalidArgument) as error:
            _LOG.debug("%s is not shown as an image: %s", target.digest, error)
        return None

    async def _read_manifest(self, described: Descriptor, index_bytes: int) -> ImageDetails:
        manifest = parse_manifest(await self._content.read(described.digest), described.media_type)
        content = await self._content.read(manifest.config.digest)
        parse_config(content, len(manifest.layers))
        layer_bytes = sum(layer.size for layer in manifest.layers)
        size_bytes = index_bytes + described.size + manifest.config.size + layer_bytes
        return ImageDetails(manifest.config.digest, manifest.layers, parse_image_config(content), size_bytes)
