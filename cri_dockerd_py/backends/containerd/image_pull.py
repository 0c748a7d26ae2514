"""One pull: what the registry has is written, unpacked and named, and held together by a lease until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor as WireDescriptor
from cri_dockerd_py.backends.containerd import gc_labels
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.content_sink import ContentSink
from cri_dockerd_py.backends.containerd.failures import one_failure
from cri_dockerd_py.backends.containerd.image_records import MANAGED, PINNED, ImageRecords, names_for
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.unpack import Unpacker, UnpackJob
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Platform
from cri_dockerd_py.distribution.pull import pull
from cri_dockerd_py.distribution.pulled_image import LayerHooks, OnFetched, PulledImage
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import ImageRef
from cri_dockerd_py.model.layers import chain_ids

PULL_LEASE = "pull"
_LEASE_EXPIRES_IN_S = 24 * 3600.0
#: How long the parts of an interrupted pull are kept for the next try.
KEPT_FOR_S = 3600.0


@dataclass(frozen=True, slots=True)
class PullSettings:
    """What all pulls have in common; the names mean what they mean for `ContainerdImages`."""

    platform: Platform
    stall_s: float
    max_parallel: int
    pinned_name: str
    on_fetched: OnFetched


class ImagePull:
    """Pulls images into one snapshotter."""

    def __init__(
        self,
        client: ContainerdClient,
        registry: Registry,
        leases: Leases,
        unpacker: Unpacker,
        records: ImageRecords,
        settings: PullSettings,
    ) -> None:
        self._client = client
        self._registry = registry
        self._leases = leases
        self._unpacker = unpacker
        self._records = records
        self._settings = settings
        self._content = Content(client)
        self._locks = KeyedLocks()

    async def pull(self, reference: ImageRef, auth: RegistryAuth | None) -> PulledImage:
        """Fetch, unpack and name an image. What an interrupted pull has fetched is used by the next one."""
        held = self._leases.held(PULL_LEASE, expires_in_s=_LEASE_EXPIRES_IN_S, keep_for_s=KEPT_FOR_S)
        async with held as lease:
            with one_failure():
                async with asyncio.TaskGroup() as group:
                    image = await self._fetch(reference, auth, lease, group)
            await self._name(image)
        return image

    async def _fetch(
        self, reference: ImageRef, auth: RegistryAuth | None, lease: str, group: asyncio.TaskGroup
    ) -> PulledImage:
        sink = ContentSink(self._client, lease, self._locks)
        return await pull(
            self._registry,
            reference,
            auth,
            sink,
            platform=self._settings.platform,
            layers=_Unpacking(self._unpacker, self._content, lease, group),
            stall_s=self._settings.stall_s,
            max_parallel=self._settings.max_parallel,
            on_fetched=self._settings.on_fetched,
        )

    async def _name(self, image: PulledImage) -> None:
        target = WireDescriptor(media_type=image.target.media_type, digest=image.target.digest, size=image.target.size)
        pin = PINNED if str(image.reference) == self._settings.pinned_name else {}
        for name in names_for(image.reference, image.config.digest, image.target.digest):
            await self._records.put(name, target, {**MANAGED, **pin})


class _Unpacking(LayerHooks):
    """Chooses the layers that are not unpacked yet, and unpacks each when it is there, in tasks of `group`."""

    def __init__(self, unpacker: Unpacker, content: Content, lease: str, group: asyncio.TaskGroup) -> None:
        self._unpacker = unpacker
        self._content = content
        self._lease = lease
        self._group = group
        self._ready: Sequence[asyncio.Event] = ()

    async def wanted(self, image: PulledImage) -> Collection[int]:
        """Return the layers above those that are unpacked."""
        present = await self._unpacker.present(chain_ids(image.diff_ids), self._lease)
        self._ready = [asyncio.Event() for _ in image.layers]
        job = UnpackJob(image.config.digest, image.layers, image.diff_ids)
        name = str(image.reference)
        self._group.create_task(self._refer(image), name=f"references of {name}")
        self._group.create_task(self._unpacker.unpack(job, self._lease, present, self._ready), name=f"unpack {name}")
        return range(present, len(image.layers))

    def ready(self, index: int) -> None:
        """Let a layer be unpacked."""
        self._ready[index].set()

    async def _refer(self, image: PulledImage) -> None:
        """Let index and manifest keep what they name."""
        for digest, children in image.children.items():
            await self._label(digest, gc_labels.of_children(children))

    async def _label(self, digest: str, labels: Mapping[str, str]) -> None:
        info = await self._content.info(digest)
        if info is None or not labels.items() <= dict(info.labels).items():
            await self._content.set_labels(digest, labels)
