"""Layers unpacked into snapshots: each one as soon as it is there, while those above it are still being fetched."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cri_dockerd_py._generated.containerd_v1.diff_pb2 import ApplyRequest
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor as WireDescriptor
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends.containerd import gc_labels
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.failures import one_failure
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.errors import AlreadyExists, CriError, Unknown
from cri_dockerd_py.model.layers import chain_ids
from cri_dockerd_py.network.settle import settle_call

_LOG = logging.getLogger(__name__)
_SNAPSHOT_REF = "containerd.io/snapshot.ref"
_SNAPSHOT_ANNOTATIONS = "containerd.io/snapshot/"
#: A layer of many gigabytes on a slow disk may take its time.
_APPLY_WITHIN_S = 3600.0
_REMOVE_WITHIN_S = 30.0
_TRIES = 3


@dataclass(frozen=True, slots=True)
class UnpackJob:
    """An image to unpack: its config's digest, and as many layers as `diff_ids`, bottom first."""

    config_digest: str
    layers: Sequence[Descriptor]
    diff_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer to unpack onto the snapshot `parent`; `ready` is set when its blob is there."""

    blob: Descriptor
    diff_id: str
    chain_id: str
    parent: str
    ready: asyncio.Event

    @property
    def labels(self) -> Mapping[str, str]:
        """What its snapshot is labelled with."""
        own = self.blob.annotations.items()
        return {_SNAPSHOT_REF: self.chain_id} | {k: v for k, v in own if k.startswith(_SNAPSHOT_ANNOTATIONS)}


class Unpacker:
    """Unpacks into one snapshotter; `locks` are shared by all unpackers of this service."""

    def __init__(self, client: ContainerdClient, snapshots: Snapshots, leases: Leases, locks: KeyedLocks) -> None:
        self._client = client
        self._content = Content(client)
        self._snapshots = snapshots
        self._leases = leases
        self._locks = locks

    async def present(self, chain: Sequence[str], lease: str) -> int:
        """Return how many layers from the bottom are unpacked; from now on the lease holds them."""
        found = await asyncio.gather(*(self._snapshots.stat(chain_id) for chain_id in chain))
        for count in range(len(chain), 0, -1):
            if found[count - 1] is not None and await self._hold(chain[count - 1], lease):
                return count
        return 0

    async def unpack(self, job: UnpackJob, lease: str, present: int, ready: Sequence[asyncio.Event]) -> str:
        """Unpack all layers but the lowest `present` ones, each when its event is set; return the top's chain id.

        The config's blob then refers to the snapshot, and so keeps it.
        """
        chain = chain_ids(job.diff_ids)
        with one_failure():
            async with asyncio.TaskGroup() as notes:
                for index in range(present, len(chain)):
                    parent = chain[index - 1] if index else ""
                    layer = _Layer(job.layers[index], job.diff_ids[index], chain[index], parent, ready[index])
                    await self._unpack(layer, lease)
                    await layer.ready.wait()  # a layer that others unpack meanwhile is fetched all the same
                    uncompressed = {gc_labels.UNCOMPRESSED: layer.diff_id}
                    notes.create_task(self._content.set_labels(layer.blob.digest, uncompressed))
        top = chain[-1] if chain else ""
        if top:
            labels = gc_labels.of_snapshot(self._snapshots.snapshotter, top)
            await self._content.set_labels(job.config_digest, labels)
        return top

    async def _unpack(self, layer: _Layer, lease: str) -> None:
        """Unpack one layer; one that is still being fetched is prepared meanwhile, for a busy disk takes its time."""
        lock = self._locks.hold((self._snapshots.snapshotter, layer.chain_id))
        is_here = layer.ready.is_set()
        async with contextlib.AsyncExitStack() as stack:
            if is_here:
                await stack.enter_async_context(lock)
            prepared = await self._prepare(layer, lease)
            if prepared is None:
                return
            key, mounts = prepared
            try:
                if not is_here:
                    await layer.ready.wait()
                    await stack.enter_async_context(lock)
                    if await self._hold(layer.chain_id, lease):
                        raise AlreadyExists(f"layer {layer.chain_id} was unpacked while its blob was fetched")
                await self._apply(layer, mounts, lease)
                await self._snapshots.commit(layer.chain_id, key, labels=layer.labels, lease=lease)
            except AlreadyExists:
                await self._remove(key)
                await self._hold(layer.chain_id, lease)
            except BaseException:
                await self._remove(key)
                raise

    async def _prepare(self, layer: _Layer, lease: str) -> tuple[str, Sequence[Mount]] | None:
        """Return (key, mounts) of a snapshot to fill, None when somebody else has unpacked the layer."""
        for _ in range(_TRIES):
            key = _extract_key(layer.chain_id)
            try:
                # Seen to its end: containerd may go on with a call that is broken off.
                prepared = self._snapshots.prepare(key, layer.parent, labels=layer.labels, lease=lease)
                return key, await settle_call(prepared, f"prepare snapshot {key}")
            except AlreadyExists:
                if await self._hold(layer.chain_id, lease):
                    return None
            except BaseException:
                await self._remove(key)
                raise
        raise Unknown(f"layer {layer.chain_id} could not be unpacked: snapshots for it came and went {_TRIES} times")

    async def _apply(self, layer: _Layer, mounts: Sequence[Mount], lease: str) -> None:
        blob = layer.blob
        diff = WireDescriptor(
            media_type=blob.media_type, digest=blob.digest, size=blob.size, annotations=blob.annotations
        )
        request = ApplyRequest(diff=diff, mounts=mounts)
        answer = await self._client.call(self._client.diff.Apply, request, within_s=_APPLY_WITHIN_S, lease=lease)
        if answer.applied.digest != layer.diff_id:
            raise Unknown(
                f"layer {blob.digest} unpacks to {answer.applied.digest}, and not to {layer.diff_id} as the image's "
                f"configuration says; the image is damaged: build and push it again"
            )

    async def _hold(self, chain_id: str, lease: str) -> bool:
        """Whether the snapshot is there, held by the lease: first held, then looked for, so that it cannot go."""
        if lease:
            await self._leases.add(lease, self._snapshots.lease_kind, chain_id)
        return await self._snapshots.stat(chain_id) is not None

    async def _remove(self, key: str) -> None:
        """Remove a snapshot that was not filled, whatever happens to the caller; else the lease's end removes it."""
        await settle_call(self._try_remove(key), f"remove snapshot {key}")

    async def _try_remove(self, key: str) -> None:
        try:
            async with asyncio.timeout(_REMOVE_WITHIN_S):
                await self._snapshots.remove(key)
        except (CriError, TimeoutError) as error:
            _LOG.info("snapshot %r is left to garbage collection: %s", key, error or "no answer")


def _extract_key(chain_id: str) -> str:
    """Return a key as all clients of containerd make it, which none makes twice."""
    noise = base64.urlsafe_b64encode(secrets.token_bytes(3)).decode()
    return f"extract-{time.time_ns() % 1_000_000_000}-{noise} {chain_id}"
