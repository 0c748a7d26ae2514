"""The client of containerd's API: errors, deadlines, streams, and a daemon that goes and comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cri_dockerd_py._generated.containerd_v1.content_pb2 import (
    STAT,
    AbortRequest,
    InfoRequest,
    ListContentRequest,
    WriteContentRequest,
)
from cri_dockerd_py._generated.containerd_v1.events_pb2 import SubscribeRequest
from cri_dockerd_py._generated.containerd_v1.images_pb2 import CreateImageRequest, Image, ImageCreate, ListImagesRequest
from cri_dockerd_py._generated.containerd_v1.leases_pb2 import CreateRequest
from cri_dockerd_py._generated.containerd_v1.snapshots_pb2 import PrepareSnapshotRequest
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor
from cri_dockerd_py.backends.containerd.any_value import read_message
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from tests.engines import ContainerdNode

ABSENT = "sha256:" + 64 * "0"
SOON_S = 10.0


@pytest_asyncio.fixture
async def own_client(own_containerd_node: ContainerdNode) -> AsyncIterator[ContainerdClient]:
    """A client of a containerd that the test may stop."""
    client = ContainerdClient(own_containerd_node.endpoint)
    yield client
    await client.close()


async def answered(client: ContainerdClient) -> None:
    """Wait until containerd answers again."""
    async with asyncio.timeout(SOON_S):
        while True:
            with contextlib.suppress(Unavailable):
                await client.ping()
                return
            await asyncio.sleep(0.05)


async def test_ping_tells_the_version(containerd: ContainerdClient, containerd_node: ContainerdNode) -> None:
    assert (await containerd.ping()).version == containerd_node.version()


async def test_errors_keep_their_class_and_text(containerd: ContainerdClient) -> None:
    with pytest.raises(NotFound, match=ABSENT):
        await containerd.call(containerd.content.Info, InfoRequest(digest=ABSENT))
    with pytest.raises(InvalidArgument):
        await containerd.call(containerd.content.Info, InfoRequest(digest="no digest"))
    lease = CreateRequest(id="test-client-twice")
    await containerd.call(containerd.leases.Create, lease)
    with pytest.raises(AlreadyExists, match="test-client-twice"):
        await containerd.call(containerd.leases.Create, lease)


async def test_a_lease_that_does_not_exist_is_not_found(containerd: ContainerdClient) -> None:
    prepare = PrepareSnapshotRequest(snapshotter="overlayfs", key="test-client-no-lease")

    with pytest.raises(NotFound, match="lease does not exist"):
        await containerd.call(containerd.snapshots.Prepare, prepare, lease="no-such-lease")


async def test_every_call_is_observed(containerd_node: ContainerdNode) -> None:
    seen: list[tuple[str, str]] = []
    client = ContainerdClient(containerd_node.endpoint, observe=lambda call, _, code: seen.append((call, code)))

    await client.ping()
    with contextlib.suppress(NotFound):
        await client.call(client.content.Info, InfoRequest(digest=ABSENT))
    async with contextlib.aclosing(client.stream(client.content.List, ListContentRequest())) as lists:
        _ = [part async for part in lists]
    await client.close()

    assert seen == [("Version.Version", "OK"), ("Content.Info", "NotFound"), ("Content.List", "OK")]


async def test_a_stream_that_its_user_leaves_is_no_failure(containerd_node: ContainerdNode) -> None:
    seen: list[tuple[str, str]] = []
    client = ContainerdClient(containerd_node.endpoint, observe=lambda call, _, code: seen.append((call, code)))

    dialogue = client.write_content(within_s=SOON_S)
    await dialogue.send(WriteContentRequest(action=STAT, ref="test-client-left", total=1))
    await dialogue.receive()
    dialogue.close()
    waiting = asyncio.ensure_future(client.call(client.content.Abort, AbortRequest(ref="test-client-left")))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await client.close()

    assert seen == [("Content.Write", "OK"), ("Content.Abort", "Cancelled")]


async def test_namespaces_see_nothing_of_each_other(containerd: ContainerdClient) -> None:
    other = containerd.in_namespace("test-client-other")
    image = Image(name="test-client/other:1", target=Descriptor(media_type="text/plain", digest=ABSENT, size=1))
    await other.call(other.images.Create, CreateImageRequest(image=image))

    ours = (await containerd.call(containerd.images.List, ListImagesRequest())).images
    theirs = (await other.call(other.images.List, ListImagesRequest())).images

    assert image.name not in [found.name for found in ours]
    assert [found.name for found in theirs] == [image.name]


async def test_events_are_a_stream_without_end(containerd: ContainerdClient) -> None:
    image = Image(name="test-client/event:1", target=Descriptor(media_type="text/plain", digest=ABSENT, size=1))
    request = SubscribeRequest(filters=['topic=="/images/create"'])
    async with contextlib.aclosing(containerd.stream(containerd.events.Subscribe, request, for_ever=True)) as events:
        first = asyncio.ensure_future(anext(events))
        async with asyncio.timeout(SOON_S):
            while not first.done():
                with contextlib.suppress(AlreadyExists):
                    await containerd.call(containerd.images.Create, CreateImageRequest(image=image))
                await asyncio.wait((first,), timeout=0.05)
                image.name += "0"
        envelope = await first

    assert envelope.namespace == containerd.namespace
    assert read_message(envelope.event, ImageCreate).name.startswith("test-client/event:1")


async def test_a_daemon_that_is_away_is_unavailable_at_once(own_containerd_node: ContainerdNode) -> None:
    client = ContainerdClient(f"{own_containerd_node.endpoint}.absent")

    with pytest.raises(Unavailable, match=r"cannot be reached for Version\.Version"):
        await client.ping()
    await client.close()


async def test_the_client_outlives_a_restart(own_client: ContainerdClient, own_containerd_node: ContainerdNode) -> None:
    events = own_client.stream(own_client.events.Subscribe, SubscribeRequest(), for_ever=True)
    waiting = asyncio.ensure_future(anext(events))
    await own_client.ping()

    await asyncio.to_thread(own_containerd_node.stop)

    with pytest.raises(Unavailable):
        async with asyncio.timeout(SOON_S):
            await waiting
    with pytest.raises(Unavailable):
        await own_client.ping()
    await asyncio.to_thread(own_containerd_node.start)
    await answered(own_client)


async def test_a_daemon_that_hangs_is_unavailable_in_time(
    own_client: ContainerdClient, own_containerd_node: ContainerdNode
) -> None:
    await own_client.ping()
    await asyncio.to_thread(own_containerd_node.freeze)
    try:
        with pytest.raises(Unavailable, match=r"did not answer Content\.Info within 0\.5 s"):
            await own_client.call(own_client.content.Info, InfoRequest(digest=ABSENT), within_s=0.5)
    finally:
        own_containerd_node.thaw()
    await own_client.ping()


async def test_calls_under_way_end_when_the_client_is_closed(
    own_client: ContainerdClient, own_containerd_node: ContainerdNode
) -> None:
    await own_client.ping()
    await asyncio.to_thread(own_containerd_node.freeze)
    try:
        call = asyncio.ensure_future(own_client.ping())
        await asyncio.wait((call,), timeout=0.2)
        await own_client.close()
        with pytest.raises(Unavailable):
            await call
    finally:
        own_containerd_node.thaw()
