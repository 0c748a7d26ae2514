"""Unpacking: what is held, what others have done meanwhile, and what is taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

from cri_dockerd_py.backends.containerd.content_sink import ContentSink
from cri_dockerd_py.backends.containerd.unpack import Unpacker, UnpackJob
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.model.image_ref import parse_reference
from cri_dockerd_py.model.layers import chain_ids
from cri_dockerd_py.pause.archive import digest
from tests.backends.containerd.conftest import Store, opened
from tests.backends.containerd.layered import OCI_CONFIG, LayeredImage, Pusher, layered, random_tars
from tests.engines import ContainerdNode

SOURCE = parse_reference("registry.example/a:1")
MIB = 1 << 20
SOON_S = 20.0


class Case:
    """An image whose blobs are in a store, under a lease, and not unpacked."""

    def __init__(self, store: Store, lease: str, tars: Sequence[bytes]) -> None:
        self.store = store
        self.lease = lease
        self.image: LayeredImage = layered(tars)
        self.diff_ids = [digest(tar) for tar in tars]
        self.chain = chain_ids(self.diff_ids)
        self.layers = [Descriptor(kind, digest(blob), len(blob)) for kind, blob in self.image.layers]
        self.job = UnpackJob(self.image.id, self.layers, self.diff_ids)
        self.ready = [asyncio.Event() for _ in tars]

    async def put_blobs(self) -> None:
        """Write config and layers."""
        sink = ContentSink(self.store.client, self.lease, KeyedLocks())
        config = Descriptor(OCI_CONFIG, self.image.id, len(self.image.config))
        blobs = [self.image.config, *(blob for _, blob in self.image.layers)]
        for descriptor, blob in zip((config, *self.layers), blobs, strict=True):
            writer = await sink.open(descriptor, SOURCE)
            assert writer is not None
            await writer.write(blob)
            await writer.commit()

    def unpacker(self) -> Unpacker:
        """Return an unpacker as another service has it, that shares no lock."""
        return Unpacker(self.store.client, self.store.snapshots, self.store.leases, KeyedLocks())

    def all_ready(self) -> None:
        """Say that every layer is there."""
        for event in self.ready:
            event.set()


async def seen(case: Case, accept: Callable[[set[str]], bool]) -> None:
    """Wait until the snapshots that there are are accepted."""
    async with asyncio.timeout(SOON_S):
        while True:
            if accept(await case.store.keys()):
                return
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def case(containerd_node: ContainerdNode, pusher: Pusher) -> AsyncIterator[Case]:
    """Three layers."""
    async with opened(containerd_node, pusher.namespace) as store:
        async with store.leases.held("test", expires_in_s=600) as lease:
            case = Case(store, lease, random_tars(3, 2 * MIB))
            await case.put_blobs()
            yield case
        await store.leases.delete(await store.leases.create("test"), sync=True)


async def test_layers_are_unpacked_when_they_are_ready(case: Case) -> None:
    unpacking = asyncio.ensure_future(case.unpacker().unpack(case.job, case.lease, 0, case.ready))
    case.ready[0].set()
    case.ready[2].set()
    await seen(case, lambda keys: case.chain[0] in keys)
    assert not (await case.store.keys()).intersection(case.chain[1:])

    case.ready[1].set()

    assert await unpacking == case.chain[2]
    assert await case.store.keys() == set(case.chain)
    labels = (await case.store.info(case.image.id)).labels
    assert labels["containerd.io/gc.ref.snapshot.overlayfs"] == case.chain[2]


async def test_unpackers_beside_each_other_do_the_work_once(case: Case) -> None:
    case.all_ready()

    tops = await asyncio.gather(*(case.unpacker().unpack(case.job, case.lease, 0, case.ready) for _ in range(4)))

    assert set(tops) == {case.chain[2]}
    assert await case.store.keys() == set(case.chain)


async def test_what_another_unpacks_while_it_is_fetched_is_not_unpacked_again(case: Case) -> None:
    unpacking = asyncio.ensure_future(case.unpacker().unpack(case.job, case.lease, 0, case.ready))
    await seen(case, bool)
    here = [asyncio.Event() for _ in case.ready]
    for event in here:
        event.set()
    await case.unpacker().unpack(case.job, case.lease, 0, here)
    committed = await case.store.snapshots.stat(case.chain[0])
    case.ready[0].set()
    await asyncio.wait((unpacking,), timeout=0.5)
    assert not unpacking.done()

    case.all_ready()

    assert await unpacking == case.chain[2]
    assert await case.store.keys() == set(case.chain)
    assert await case.store.snapshots.stat(case.chain[0]) == committed


async def test_an_unpacking_that_is_cancelled_while_a_layer_is_fetched_leaves_nothing(case: Case) -> None:
    unpacking = asyncio.ensure_future(case.unpacker().unpack(case.job, case.lease, 0, case.ready))
    await seen(case, bool)

    unpacking.cancel()
    await asyncio.wait((unpacking,))

    assert await case.store.keys() == set()


async def test_what_is_present_is_held_by_the_lease(case: Case) -> None:
    unpacker = case.unpacker()
    case.all_ready()
    other = await case.store.leases.create("test", expires_in_s=600)
    await unpacker.unpack(UnpackJob(case.image.id, case.layers[:2], case.diff_ids[:2]), other, 0, case.ready)

    assert await unpacker.present(case.chain, case.lease) == 2

    await case.store.leases.delete(other, sync=True)
    assert await case.store.keys() == set(case.chain[:2])
    assert await unpacker.unpack(case.job, case.lease, 2, case.ready) == case.chain[2]


async def test_nothing_is_present_of_an_unknown_image(case: Case) -> None:
    assert await case.unpacker().present(case.chain, case.lease) == 0
    assert await case.unpacker().present([], case.lease) == 0


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.1])
async def test_a_cancelled_unpacking_leaves_nothing_half_done(case: Case, after_s: float) -> None:
    case.all_ready()
    unpacking = asyncio.ensure_future(case.unpacker().unpack(case.job, case.lease, 0, case.ready))
    await asyncio.wait((unpacking,), timeout=after_s)

    unpacking.cancel()
    await asyncio.wait((unpacking,))

    assert await case.store.keys() <= set(case.chain)
    assert await case.unpacker().unpack(case.job, case.lease, 0, case.ready) == case.chain[2]
