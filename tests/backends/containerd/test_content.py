"""The content store: blobs written, resumed, shared, read and labelled."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.content_sink import ContentSink
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Descriptor, digest_of
from cri_dockerd_py.distribution.media_types import OCI_LAYER
from cri_dockerd_py.distribution.sink import BlobWriter, ContentMismatch
from cri_dockerd_py.errors import NotFound, Unknown
from cri_dockerd_py.model.image_ref import parse_reference

SOURCE = parse_reference("registry.example:5000/team/app:1")
OTHER = parse_reference("registry.example:5000/another/app:1")
SOON_S = 10.0


def blob(size: int = 5_000_000) -> tuple[bytes, Descriptor]:
    """Return content that no store has."""
    content = secrets.token_bytes(size)
    return content, Descriptor(OCI_LAYER, digest_of(content), size)


@pytest_asyncio.fixture
async def lease(containerd: ContainerdClient) -> AsyncIterator[str]:
    """A lease for the test's blobs."""
    leases = Leases(containerd, "test-content")
    async with leases.held("test", expires_in_s=600) as lease_id:
        yield lease_id


@pytest.fixture
def sink(containerd: ContainerdClient, lease: str) -> ContentSink:
    """The store under test."""
    return ContentSink(containerd, lease, KeyedLocks())


async def writer_for(sink: ContentSink, descriptor: Descriptor) -> BlobWriter:
    """Open a blob that is not there."""
    writer = await sink.open(descriptor, SOURCE)
    assert writer is not None
    return writer


async def write(sink: ContentSink, content: bytes, descriptor: Descriptor, piece: int = 300_000) -> None:
    """Write a whole blob in pieces."""
    writer = await writer_for(sink, descriptor)
    for start in range(writer.offset, len(content), piece):
        await writer.write(content[start : start + piece])
    await writer.commit()


@pytest.mark.parametrize("piece", [1, 300_000, 9_000_000])
async def test_a_written_blob_can_be_read(containerd: ContainerdClient, sink: ContentSink, piece: int) -> None:
    content, descriptor = blob(3000 if piece == 1 else 10_000_000)

    await write(sink, content, descriptor, piece)

    store = Content(containerd)
    info = await store.info(descriptor.digest)
    assert info is not None
    assert info.size == descriptor.size
    assert dict(info.labels) == {"containerd.io/distribution.source.registry.example": "team/app"}
    assert await store.read(descriptor.digest, limit_bytes=descriptor.size) == content


async def test_a_blob_that_is_there_is_not_written(containerd: ContainerdClient, sink: ContentSink) -> None:
    content, descriptor = blob()
    await write(sink, content, descriptor)

    assert await sink.open(descriptor, OTHER) is None

    info = await Content(containerd).info(descriptor.digest)
    assert info is not None
    assert dict(info.labels) == {"containerd.io/distribution.source.registry.example": "another/app,team/app"}


@pytest.mark.parametrize("keep", [True, False])
async def test_an_abandoned_blob_is_kept_or_dropped(
    containerd: ContainerdClient, sink: ContentSink, keep: bool
) -> None:
    content, descriptor = blob()
    writer = await writer_for(sink, descriptor)
    await writer.write(content[:2_000_000])
    await writer.write(content[2_000_000:4_000_000])
    await writer.abandon(keep=keep)
    await writer.abandon(keep=keep)

    again = await writer_for(sink, descriptor)

    assert (0 < again.offset <= 4_000_000) is keep
    await again.write(content[again.offset :])
    await again.commit()
    assert await Content(containerd).read(descriptor.digest) == content


async def test_wrong_content_is_refused_and_forgotten(sink: ContentSink) -> None:
    content, descriptor = blob()
    writer = await writer_for(sink, descriptor)
    await writer.write(bytes(len(content)))

    with pytest.raises(ContentMismatch, match=descriptor.digest):
        await writer.commit()

    again = await writer_for(sink, descriptor)
    assert again.offset == 0
    await again.abandon(keep=False)


async def test_too_little_content_is_refused(sink: ContentSink) -> None:
    content, descriptor = blob()
    writer = await writer_for(sink, descriptor)
    await writer.write(content[:-1])

    with pytest.raises(ContentMismatch):
        await writer.commit()


async def test_a_blob_that_another_pull_writes_is_waited_for(sink: ContentSink) -> None:
    content, descriptor = blob()
    writer = await writer_for(sink, descriptor)
    other = asyncio.ensure_future(sink.open(descriptor, SOURCE))
    await writer.write(content)

    assert not other.done()
    await writer.commit()

    assert await other is None


@pytest.mark.parametrize("comes_to_good_end", [True, False])
async def test_a_blob_that_another_client_writes_is_waited_for(
    containerd: ContainerdClient, sink: ContentSink, lease: str, comes_to_good_end: bool
) -> None:
    content, descriptor = blob()
    another_client = ContentSink(containerd, lease, KeyedLocks())
    theirs = await writer_for(another_client, descriptor)
    await theirs.write(content)
    ours = asyncio.ensure_future(sink.open(descriptor, SOURCE))
    await asyncio.wait((ours,), timeout=0.3)
    assert not ours.done()

    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as jobs:
        jobs.create_task(theirs.commit() if comes_to_good_end else theirs.abandon(keep=True))
        writer = await ours
        if writer is not None:
            assert not comes_to_good_end or writer.offset == descriptor.size
            if writer.offset < descriptor.size:
                await writer.write(content[writer.offset :])
            await writer.commit()

    assert await Content(containerd).read(descriptor.digest) == content


async def test_a_blob_of_another_namespace_is_shared(containerd: ContainerdClient, sink: ContentSink) -> None:
    content, descriptor = blob()
    await write(sink, content, descriptor)
    other = containerd.in_namespace("test-content-sharing")
    async with Leases(other, "test-content").held("test", expires_in_s=600) as lease:
        writer = await writer_for(ContentSink(other, lease, KeyedLocks()), descriptor)

        assert writer.offset == descriptor.size
        await writer.commit()

        assert await Content(other).read(descriptor.digest) == content


async def test_what_a_lease_held_goes_with_it(containerd: ContainerdClient) -> None:
    leases = Leases(containerd, "test-content")
    content, descriptor = blob()
    lease = await leases.create("test", expires_in_s=600)
    await write(ContentSink(containerd, lease, KeyedLocks()), content, descriptor)

    await leases.delete(lease, sync=True)

    assert await Content(containerd).info(descriptor.digest) is None
    with pytest.raises(NotFound):
        await Content(containerd).read(descriptor.digest)


async def test_what_a_failed_lease_held_is_kept_for_a_while(containerd: ContainerdClient) -> None:
    leases = Leases(containerd, "test-content-kept")
    content, descriptor = blob()

    async def fail() -> None:
        async with leases.held("test", expires_in_s=600, keep_for_s=600) as lease:
            sink = ContentSink(containerd, lease, KeyedLocks())
            writer = await writer_for(sink, descriptor)
            await writer.write(content[:3_000_000])
            await writer.write(content[3_000_000:4_500_000])
            await writer.abandon(keep=True)
            raise Unknown("on purpose")

    with pytest.raises(Unknown, match="on purpose"):
        await fail()

    assert not await leases.list("test")
    (heir,) = await leases.list("test-kept")
    await leases.delete(await leases.create("other"), sync=True)
    async with leases.held("test", expires_in_s=600) as lease:
        writer = await writer_for(ContentSink(containerd, lease, KeyedLocks()), descriptor)
        assert writer.offset > 0
        await writer.abandon(keep=False)
    await leases.delete(heir.id, sync=True)


async def test_leases_of_an_earlier_process_are_ended(containerd: ContainerdClient) -> None:
    leases, of_another = Leases(containerd, "test-stale"), Leases(containerd, "another")
    await leases.create("test", expires_in_s=600)
    theirs = await of_another.create("test", expires_in_s=600)

    async with leases.held("test", expires_in_s=600) as in_use:
        await leases.end_stale("test")
        assert [lease.id for lease in await leases.list("test")] == [in_use]

    assert not await leases.list("test")
    assert [lease.id for lease in await of_another.list("test")] == [theirs]
    await of_another.delete(theirs)


async def test_labels_and_bounds(containerd: ContainerdClient, sink: ContentSink) -> None:
    content, descriptor = blob(3_000_000)
    await write(sink, content, descriptor)
    store = Content(containerd)

    await store.set_labels(descriptor.digest, {"test/a.b": "1", "test/c": "2"})
    await store.set_labels(descriptor.digest, {"test/c": "", "test/d": "3"})

    found = [info async for info in store.list(['labels."test/a.b"==1'])]
    assert [info.digest for info in found] == [descriptor.digest]
    assert {key: value for key, value in found[0].labels.items() if key.startswith("test/")} == {
        "test/a.b": "1",
        "test/d": "3",
    }
    with pytest.raises(Unknown, match="larger than"):
        await store.read(descriptor.digest, limit_bytes=1_000_000)
    with pytest.raises(Unknown, match="no JSON"):
        await store.read_json(descriptor.digest)
