"""Images shared between namespaces of one containerd: no byte is copied, each namespace gets its own hold on the blobs.

Docker's image store keeps its images in the namespace `moby`. Labels are not shared, so what refers to what is written
anew; and snapshots are not either, so layers are unpacked once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor as WireDescriptor
from cri_dockerd_py.backends.containerd import gc_labels
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.content_sink import ContentSink
from cri_dockerd_py.backends.containerd.image_records import MANAGED, ImageRecords
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.oci.image_config import parse_image_config
from cri_dockerd_py.backends.containerd.unpack import Unpacker, UnpackJob
from cri_dockerd_py.backends.image_transfer import ImageTransfer, Note
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Descriptor, Platform
from cri_dockerd_py.distribution.media_types import Kind, kind_of
from cri_dockerd_py.distribution.platform import in_order
from cri_dockerd_py.distribution.rules.documents import BadDocument, parse_index, parse_manifest
from cri_dockerd_py.errors import NotFound, Unknown
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.image_ref import ImageRef
from cri_dockerd_py.model.layers import chain_ids

SHARE_LEASE = "share"
_LEASE_EXPIRES_IN_S = 24 * 3600.0
_NOWHERE = ImageRef("", "")


@dataclass(frozen=True, slots=True)
class _Tree:
    """An image's blobs: what its names stand for, and what that leads to, the innermost first."""

    target: Descriptor
    documents: Sequence[tuple[Descriptor, Sequence[Descriptor]]]
    config: Descriptor
    layers: Sequence[Descriptor]


class NamespaceShare:
    """Brings images from one namespace of containerd into another; `unpacker` is None where the owner unpacks."""

    def __init__(
        self,
        source: ContainerdClient,
        target: ContainerdClient,
        leases: Leases,
        platform: Platform,
        unpacker: Unpacker | None,
    ) -> None:
        self._source = Content(source)
        self._source_records = ImageRecords(source)
        self._client = target
        self._content = Content(target)
        self._records = ImageRecords(target)
        self._leases = leases
        self._platform = platform
        self._unpacker = unpacker
        self._locks = KeyedLocks()

    async def target_of(self, image: ImageRecord) -> WireDescriptor | None:
        """Return what the image's names stand for in the source namespace, None when it is not there."""
        for record in await self._source_records.list():
            if record.target.digest == image.id or record.name == image.id:
                return record.target
        return None

    async def share(self, image: ImageRecord, target: WireDescriptor) -> str:
        """Share an image with all its names, unpack it, and return the digest of its configuration."""
        tree = await self._tree(Descriptor(target.media_type, target.digest, target.size))
        held = self._leases.held(SHARE_LEASE, expires_in_s=_LEASE_EXPIRES_IN_S)
        async with held as lease:
            sink = ContentSink(self._client, lease, self._locks)
            for blob in (tree.config, *tree.layers, *(document for document, _ in tree.documents)):
                await self._take(sink, blob)
            for document, children in tree.documents:
                await self._content.set_labels(document.digest, gc_labels.of_children(children))
            if self._unpacker is not None:
                await self._unpack(self._unpacker, tree, lease)
            for name in self._names(image, tree):
                await self._records.put(name, target, MANAGED if self._unpacker else {})
        return tree.config.digest

    def _names(self, image: ImageRecord, tree: _Tree) -> tuple[str, ...]:
        own = (tree.config.digest,) if self._unpacker else ()
        return (*own, *image.repo_tags, *image.repo_digests)

    async def _tree(self, target: Descriptor) -> _Tree:
        try:
            if kind_of(target.media_type) is not Kind.INDEX:
                return await self._manifest(target, target, ())
            index = parse_index(await self._source.read(target.digest), target.media_type)
            for manifest in in_order(index.manifests, self._platform):
                if await self._source.info(manifest.digest) is not None:
                    return await self._manifest(target, manifest, ((target, index.manifests),))
        except BadDocument as error:
            raise Unknown(f"image {target.digest} cannot be shared: {error}") from error
        raise NotFound(f"image {target.digest} has nothing for {self._platform} on this node")

    async def _manifest(
        self, target: Descriptor, described: Descriptor, above: Sequence[tuple[Descriptor, Sequence[Descriptor]]]
    ) -> _Tree:
        manifest = parse_manifest(await self._source.read(described.digest), described.media_type)
        documents = ((described, (manifest.config, *manifest.layers)), *above)
        return _Tree(target, documents, manifest.config, manifest.layers)

    async def _take(self, sink: ContentSink, blob: Descriptor) -> None:
        writer = await sink.open(blob, _NOWHERE)
        if writer is None:
            return
        if writer.offset != blob.size:
            await writer.abandon(keep=False)
            raise NotFound(
                f"blob {blob.digest} is not shared between containerd's namespaces: it is gone, or the policy of "
                "this containerd is to isolate them (content_sharing_policy)"
            )
        await writer.commit()

    async def _unpack(self, unpacker: Unpacker, tree: _Tree, lease: str) -> None:
        config = parse_image_config(await self._content.read(tree.config.digest))
        present = await unpacker.present(chain_ids(config.diff_ids), lease)
        here = asyncio.Event()
        here.set()
        job = UnpackJob(tree.config.digest, tree.layers, config.diff_ids)
        await unpacker.unpack(job, lease, present, [here] * len(tree.layers))


class SharingTransfer(ImageTransfer):
    """Shares where both engines keep images in one containerd, else copies.

    `namespace` tells where the other engine keeps its images, "" when not in a containerd; `share_from` returns the
    share for that namespace.
    """

    def __init__(
        self,
        namespace: Callable[[], Awaitable[str]],
        share_with: Callable[[str], NamespaceShare],
        otherwise: ImageTransfer,
    ) -> None:
        self._namespace = namespace
        self._share_with = share_with
        self._otherwise = otherwise

    async def copy(self, image: ImageRecord, note: Note) -> str:
        """Bring an image."""
        if namespace := await self._namespace():
            share = self._share_with(namespace)
            target = await share.target_of(image)
            if target is not None:
                image_id = await share.share(image, target)
                note(image.size_bytes)
                return image_id
        return await self._otherwise.copy(image, note)

    async def room_bytes(self) -> int:
        """Return how much may still be written where the images go."""
        return await self._otherwise.room_bytes()

    async def copies_content(self) -> bool:
        """Whether there is nothing to share."""
        return not await self._namespace()
