"""Images put into containerd by ourselves: blobs that come from another store of this node, verified and unpacked.

A manifest is made for what comes without one. It is the same for the same image, and names its layers as they are
stored; the digests that registries know of the image stay on as names, which stand for this manifest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Sequence

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor as WireDescriptor
from cri_dockerd_py.backends.archive_stream import ArchiveReader, Member
from cri_dockerd_py.backends.containerd import gc_labels
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.content_sink import ContentSink
from cri_dockerd_py.backends.containerd.failures import full_disk_told, one_failure
from cri_dockerd_py.backends.containerd.image_records import MANAGED, ImageRecords
from cri_dockerd_py.backends.containerd.images import ContainerdImages
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.nameless_blob import write_nameless
from cri_dockerd_py.backends.containerd.unpack import UnpackJob
from cri_dockerd_py.backends.docker_archive import ArchivedImage, is_document, read_archived
from cri_dockerd_py.backends.image_transfer import ImageBlobs, ImageSink, LayerBlob, Note
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Descriptor, digest_of
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.image_ref import ImageRef
from cri_dockerd_py.model.layers import chain_ids

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
IMPORT_LEASE = "import"
_LEASE_EXPIRES_IN_S = 24 * 3600.0
#: How long the parts of an interrupted import are kept for the next try.
KEPT_FOR_S = 3600.0
#: No registry has these blobs.
_NOWHERE = ImageRef("", "")


class ContainerdImageSink(ImageSink):
    """Stores images in one containerd namespace."""

    def __init__(self, client: ContainerdClient, images: ContainerdImages, leases: Leases) -> None:
        self._client = client
        self._images = images
        self._leases = leases
        self._unpacker = images.unpacker
        self._content = Content(client)
        self._records = ImageRecords(client)
        self._locks = KeyedLocks()

    async def store(self, image: ImageRecord, blobs: ImageBlobs, note: Note) -> str:
        """Store an image blob by blob; each layer is unpacked while those above it are being written."""
        config = _descriptor(CONFIG_TYPE, blobs.config)
        if await self._is_here(image, config.digest):
            return config.digest
        async with self._held() as lease:
            sink = ContentSink(self._client, lease, self._locks)
            await self._put(sink, config, blobs.config)
            layers = [Descriptor(layer.media_type, layer.digest, layer.size) for layer in blobs.layers]
            job = UnpackJob(config.digest, layers, [layer.diff_id for layer in blobs.layers])
            present = await self._unpacker.present(chain_ids(job.diff_ids), lease)
            ready = [asyncio.Event() for _ in layers]
            with one_failure():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._unpacker.unpack(job, lease, present, ready), name="unpack import")
                    for index, layer in enumerate(blobs.layers):
                        if index >= present:
                            await self._copy(sink, layer, note)
                        ready[index].set()
            await self._name(image, sink, config, layers)
        return config.digest

    async def store_archive(self, image: ImageRecord, archive: AsyncIterator[bytes], note: Note) -> str:
        """Store an image from an archive, whose parts come in any order."""
        async with self._held() as lease:
            found = await self._take_in(archive, lease, note)
            config = _descriptor(CONFIG_TYPE, found.config)
            if await self._is_here(image, config.digest):
                return config.digest
            sink = ContentSink(self._client, lease, self._locks)
            await self._put(sink, config, found.config)
            layers = [Descriptor(layer.media_type, layer.digest, layer.size) for layer in found.layers]
            chain = chain_ids(found.diff_ids)
            present = await self._unpacker.present(chain, lease)
            here = asyncio.Event()
            here.set()
            job = UnpackJob(config.digest, layers, found.diff_ids)
            await self._unpacker.unpack(job, lease, present, [here] * len(layers))
            await self._name(image, sink, config, layers)
        return config.digest

    async def room_bytes(self) -> int:
        """Return what is free on the file system of the snapshots."""
        state = os.statvfs(await self._images.filesystem.root())
        return state.f_bavail * state.f_frsize

    # --- parts

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncIterator[str]:
        held = self._leases.held(IMPORT_LEASE, expires_in_s=_LEASE_EXPIRES_IN_S, keep_for_s=KEPT_FOR_S)
        async with held as lease:
            with full_disk_told():
                yield lease

    async def _is_here(self, image: ImageRecord, config_digest: str) -> bool:
        """Whether the image is here and unpacked; it gets the names that it lacks."""
        if await self._images.inspect(config_digest) is None:
            return False
        async with self._held() as lease:
            await self._images.ensure_unpacked(config_digest, self._images.snapshotter, lease)
            for record in await self._records.list():
                if record.name == config_digest:
                    await self._put_names(image, config_digest, record.target)
                    return True
        return False

    async def _copy(self, sink: ContentSink, layer: LayerBlob, note: Note) -> None:
        writer = await sink.open(Descriptor(layer.media_type, layer.digest, layer.size), _NOWHERE)
        if writer is None:
            note(layer.size)
            return
        try:
            note(writer.offset)
            if writer.offset < layer.size:
                async with contextlib.aclosing(layer.read(writer.offset)) as chunks:
                    async for chunk in chunks:
                        await writer.write(chunk)
                        note(len(chunk))
            await writer.commit()
        except BaseException:
            await writer.abandon(keep=True)
            raise

    async def _put(self, sink: ContentSink, descriptor: Descriptor, content: bytes) -> None:
        writer = await sink.open(descriptor, _NOWHERE)
        if writer is None:
            return
        try:
            await writer.write(content[writer.offset :])
            await writer.commit()
        except BaseException:
            await writer.abandon(keep=False)
            raise

    async def _name(
        self, image: ImageRecord, sink: ContentSink, config: Descriptor, layers: Sequence[Descriptor]
    ) -> None:
        """Make the manifest that holds it all together, and then the names."""
        content = _manifest(config, layers)
        manifest = _descriptor(MANIFEST_TYPE, content)
        await self._put(sink, manifest, content)
        await self._content.set_labels(manifest.digest, gc_labels.of_children([config, *layers]))
        target = WireDescriptor(media_type=manifest.media_type, digest=manifest.digest, size=manifest.size)
        await self._put_names(image, config.digest, target)

    async def _put_names(self, image: ImageRecord, image_id: str, target: WireDescriptor) -> None:
        for name in (image_id, *image.repo_tags, *image.repo_digests):
            await self._records.put(name, target, MANAGED)

    async def _take_in(self, archive: AsyncIterator[bytes], lease: str, note: Note) -> ArchivedImage:
        """Write an archive's layers to the content store as they come, and keep its documents in memory."""
        reader = ArchiveReader(archive)
        documents: dict[str, bytes] = {}
        layers: dict[str, tuple[str, int, bytes]] = {}
        links: dict[str, str] = {}
        while (member := await reader.next()) is not None:
            if member.link_target:
                links[member.name] = member.link_target
            elif member.is_file:
                first = await anext(content := reader.content(), b"")
                if is_document(member, first):
                    documents[member.name] = first + b"".join([chunk async for chunk in content])
                else:
                    layers[member.name] = await self._take_layer(member, first, content, lease, note)
        return read_archived(documents, layers, links)

    async def _take_layer(
        self, member: Member, first: bytes, content: AsyncIterator[bytes], lease: str, note: Note
    ) -> tuple[str, int, bytes]:
        async def noted() -> AsyncIterator[bytes]:
            note(len(first))
            yield first
            async for chunk in content:
                note(len(chunk))
                yield chunk

        ref = f"import-{secrets.token_hex(8)}"
        return await write_nameless(self._client, ref, member.size, noted(), lease), member.size, first[:4]


def _descriptor(media_type: str, content: bytes) -> Descriptor:
    return Descriptor(media_type, digest_of(content), len(content))


def _manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _described(config),
        "layers": [_described(layer) for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _described(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": descriptor.digest}
