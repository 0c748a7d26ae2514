"""Pulls into containerd: fetched, unpacked, named, kept, shared, and all of it gone again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cri_dockerd_py._generated.containerd_v1.images_pb2 import CreateImageRequest, Image
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor
from cri_dockerd_py.backends.containerd.oci.image_config import parse_image_config
from cri_dockerd_py.errors import CriError, NotFound, Unavailable, Unknown
from cri_dockerd_py.model.layers import chain_ids
from cri_dockerd_py.pause.archive import LayerFile, build_image, digest, make_tar
from tests.backends.containerd.conftest import Store, opened
from tests.backends.containerd.layered import (
    OCI_INDEX,
    LayeredImage,
    Pusher,
    index_of,
    layered,
    random_tars,
)
from tests.behaviour.registries import Demands, PickyRegistry
from tests.engines import ContainerdNode
from tests.images import build

SOON_S = 20.0
MIB = 1 << 20


@pytest_asyncio.fixture
async def store(containerd_node: ContainerdNode, pusher: Pusher) -> AsyncIterator[Store]:
    """The images of a containerd namespace of the test's own."""
    async with opened(containerd_node, pusher.namespace) as store:
        yield store
        for record in await store.images.list():
            await store.images.remove(record.id)


def new_image(count: int = 3, size: int = 500_000, **more: str) -> LayeredImage:
    """Return an image that nobody has."""
    return layered(random_tars(count, size), **more)


async def files_of(store: Store, image_id: str) -> dict[str, bytes]:
    """Return the files that a container of the image would see, as the snapshotter's mounts say."""
    async with store.leases.held("test", expires_in_s=600) as lease:
        chain = await store.images.ensure_unpacked(image_id, "overlayfs", lease)
        mounts = await store.snapshots.view("test-view", chain, lease=lease)
        options = next((o for m in mounts for o in m.options if o.startswith("lowerdir=")), "")
        directories = options.removeprefix("lowerdir=").split(":") if options else [mounts[0].source]
        found = {path.name: path.read_bytes() for d in reversed(directories) for path in Path(d).rglob("file-*")}
        await store.snapshots.remove("test-view")
    return found


async def collect(store: Store) -> None:
    """Let containerd collect all garbage now."""
    await store.leases.delete(await store.leases.create("test"), sync=True)


@pytest.mark.behaviour("IMG-30", "IMG-31", "IMG-04", "IMG-08")
async def test_a_pulled_image_is_named_unpacked_and_kept(store: Store, pusher: Pusher) -> None:
    image = new_image(user="1003:users")
    reference = pusher.image(image, "1")

    assert await store.images.pull(reference, None) == image.id

    await collect(store)
    record = await store.images.inspect(reference)
    assert record is not None
    assert record == await store.images.inspect(image.id)
    assert record == await store.images.inspect(record.repo_digests[0])
    assert [record] == await store.images.list()
    assert (record.id, record.repo_tags) == (image.id, (reference,))
    assert record.repo_digests == (f"{pusher.address}/{pusher.repository}@{digest(image.manifest())}",)
    assert (record.uid, record.username) == (1003, "")
    assert record.size_bytes == len(image.manifest() + image.config) + sum(len(blob) for _, blob in image.layers)
    assert (await store.images.config_of(image.id)).user == "1003:users"
    assert set(await store.images.names_of(image.id)) == {image.id, reference, *record.repo_digests}
    assert await store.blobs() == image.digests()
    assert sorted(await files_of(store, image.id)) == ["file-0", "file-1", "file-2"]
    assert not [lease for purpose in ("pull", "pull-kept") for lease in await store.leases.list(purpose)]


@pytest.mark.behaviour("IMG-32")
async def test_a_second_pull_fetches_nothing(store: Store, pusher: Pusher) -> None:
    image = build("picky")
    with PickyRegistry(image, Demands()) as picky:
        await store.images.pull(picky.reference(), None)
        fetched = picky.seen.blob_requests

        assert await store.images.pull(picky.reference(), None) == image.config_digest

        assert picky.seen.blob_requests == fetched


async def test_layers_of_another_image_are_not_fetched_again(store: Store, pusher: Pusher) -> None:
    tars = random_tars(3, 300_000)
    below, above = layered(tars[:2]), layered(tars)
    await store.images.pull(pusher.image(below, "below"), None)

    await store.images.pull(pusher.image(above, "above"), None)

    await collect(store)
    assert await store.blobs() == below.digests() | above.digests()
    await store.images.remove(below.id)
    assert await store.blobs() == above.digests()
    assert sorted(await files_of(store, above.id)) == ["file-0", "file-1", "file-2"]


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
async def test_layers_in_every_compression(store: Store, pusher: Pusher, suffix: str) -> None:
    tars = random_tars(2, 400_000)
    image = layered(tars, (suffix,))

    await store.images.pull(pusher.image(image, "1"), None)

    files = await files_of(store, image.id)
    assert make_tar({"file-1": LayerFile(files["file-1"], 0o644)}) == tars[1]
    labels = [(await store.info(digest(blob))).labels for _, blob in image.layers]
    assert [label["containerd.io/uncompressed"] for label in labels] == [digest(tar) for tar in tars]


async def test_an_index_of_several_platforms(store: Store, pusher: Pusher) -> None:
    ours, theirs = new_image(architecture="amd64"), new_image(architecture="s390x")
    pusher.image(ours)
    pusher.image(theirs)
    index = index_of({"s390x": theirs, "amd64": ours})
    reference = pusher.manifest(index, OCI_INDEX, "many")

    assert await store.images.pull(reference, None) == ours.id

    await collect(store)
    record = await store.images.inspect(ours.id)
    assert record is not None
    assert record.repo_digests == (f"{pusher.address}/{pusher.repository}@{digest(index)}",)
    assert await store.blobs() == {digest(index), *ours.digests()}
    own = len(index + ours.manifest() + ours.config) + sum(len(blob) for _, blob in ours.layers)
    assert record.size_bytes == own
    labels = (await store.info(digest(index))).labels
    assert labels["containerd.io/gc.ref.content.m.0"] == digest(theirs.manifest())
    assert labels["containerd.io/gc.ref.content.m.1"] == digest(ours.manifest())


async def test_an_index_without_this_platform_is_not_found(store: Store, pusher: Pusher) -> None:
    theirs = new_image(1, architecture="s390x")
    pusher.image(theirs)
    reference = pusher.manifest(index_of({"s390x": theirs}), OCI_INDEX, "foreign")

    with pytest.raises(NotFound):
        await store.images.pull(reference, None)

    assert await store.images.list() == []


@pytest.mark.behaviour("IMG-05")
async def test_a_pull_by_digest_makes_no_tag(store: Store, pusher: Pusher) -> None:
    image = new_image(1)
    reference = pusher.image(image)

    await store.images.pull(reference, None)

    record = await store.images.inspect(image.id)
    assert record is not None
    assert (record.repo_tags, record.repo_digests) == ((), (reference,))


@pytest.mark.behaviour("IMG-32", "IMG-23")
async def test_a_tag_that_moves_leaves_the_old_image_without_it(store: Store, pusher: Pusher) -> None:
    old, new = new_image(1), new_image(1)
    reference = pusher.image(old, "1")
    await store.images.pull(reference, None)
    assert pusher.image(new, "1") == reference

    assert await store.images.pull(reference, None) == new.id

    by_id = {record.id: record for record in await store.images.list()}
    assert by_id[old.id].repo_tags == ()
    assert by_id[new.id].repo_tags == (reference,)


@pytest.mark.behaviour("IMG-35")
async def test_pulls_of_one_image_beside_each_other(store: Store, pusher: Pusher) -> None:
    image = new_image(4, MIB)
    references = [pusher.image(image, tag) for tag in ("a", "b", "c")]

    ids = await asyncio.gather(*(store.images.pull(reference, None) for reference in 2 * references))

    assert set(ids) == {image.id}
    (record,) = await store.images.list()
    assert record.repo_tags == tuple(references)
    assert await store.keys() == set(chain_ids(parse_image_config(image.config).diff_ids))
    await store.images.remove(image.id)
    assert await store.blobs() == set()


@pytest.mark.behaviour("IMG-35")
async def test_two_services_pull_one_image(store: Store, pusher: Pusher, containerd_node: ContainerdNode) -> None:
    image = new_image(4, 2 * MIB)
    reference = pusher.image(image, "1")
    async with opened(containerd_node, pusher.namespace, owner="another") as other:
        ids = await asyncio.gather(store.images.pull(reference, None), other.images.pull(reference, None))

    assert set(ids) == {image.id}
    assert await store.keys() == set(chain_ids(parse_image_config(image.config).diff_ids))
    await collect(store)
    assert await store.blobs() == image.digests()


@pytest.mark.behaviour("IMG-50", "IMG-51", "IMG-52")
async def test_nothing_is_left_of_a_removed_image(store: Store, pusher: Pusher) -> None:
    image = new_image()
    await store.images.pull(pusher.image(image, "1"), None)
    await store.images.pull(pusher.image(image, "2"), None)

    await asyncio.gather(*(store.images.remove(image.id) for _ in range(5)))

    assert await store.images.list() == []
    assert await store.blobs() == set()
    assert await store.keys() == set()


async def test_an_image_of_another_namespace_needs_no_transfer(
    store: Store, containerd_node: ContainerdNode, pusher: Pusher
) -> None:
    image = build_image({"big": LayerFile(random_tars(1, MIB)[0], 0o644)}, {})
    with PickyRegistry(image, Demands()) as picky:
        async with opened(containerd_node, f"{pusher.namespace}-o") as other:
            await other.images.pull(picky.reference(), None)
            fetched = picky.seen.blob_requests

            assert await store.images.pull(picky.reference(), None) == image.config_digest

            assert picky.seen.blob_requests == fetched
            await other.images.remove(image.config_digest)
        await collect(store)
        assert {image.config_digest, image.layer_digest} < await store.blobs()


@pytest.mark.behaviour("IMG-34")
async def test_an_interrupted_pull_goes_on_where_it_was(store: Store, pusher: Pusher) -> None:
    image = build_image({"big": LayerFile(random_tars(1, 8 * MIB)[0], 0o644)}, {})
    with PickyRegistry(image, Demands(stall_at_bytes=5 * MIB)) as picky:
        pull = asyncio.ensure_future(store.images.pull(picky.reference(), None))
        await asyncio.to_thread(picky.seen.stalled.wait, SOON_S)
        await store.until_ingested(3 * MIB)
        pull.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pull
        assert pull.cancelled()
        assert await store.images.list() == []
        await collect(store)

        ingested = await store.ingested()
        assert ingested >= 3 * MIB
        picky.demands.stall_at_bytes = -1
        assert await store.images.pull(picky.reference(), None) == image.config_digest
    assert await store.keys()


@pytest.mark.behaviour("IMG-33")
async def test_a_pull_without_progress_is_given_up(containerd_node: ContainerdNode, pusher: Pusher) -> None:
    image = build_image({"big": LayerFile(random_tars(1, MIB)[0], 0o644)}, {})
    async with opened(containerd_node, pusher.namespace, stall_s=1.0) as store:
        with PickyRegistry(image, Demands(stall_at_bytes=1000)) as picky, pytest.raises(Unknown, match="progress"):
            await store.images.pull(picky.reference(), None)
        assert await store.keys() == set()


async def test_a_layer_that_is_not_what_the_config_says(store: Store, pusher: Pusher) -> None:
    image, other = new_image(2), new_image(2)
    damaged = LayeredImage(image.config, (image.layers[0], other.layers[1]))

    with pytest.raises(Unknown, match="the image is damaged"):
        await store.images.pull(pusher.image(damaged, "1"), None)

    assert await store.images.list() == []
    await collect(store)
    assert await store.keys() <= set(chain_ids(parse_image_config(image.config).diff_ids)[:1])


async def test_an_image_whose_snapshots_are_gone_is_unpacked_again(store: Store, pusher: Pusher) -> None:
    image = new_image()
    await store.images.pull(pusher.image(image, "1"), None)
    for key in reversed(chain_ids(parse_image_config(image.config).diff_ids)):
        await store.snapshots.remove(key)

    assert sorted(await files_of(store, image.id)) == ["file-0", "file-1", "file-2"]


async def test_images_of_other_tools_are_seen(store: Store, pusher: Pusher) -> None:
    image = new_image()
    await store.images.pull(pusher.image(image, "1"), None)
    manifest = image.manifest()
    target = Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json", digest=digest(manifest), size=len(manifest)
    )
    for name in ("docker.io/library/by-ctr:1", "not a reference"):
        await store.client.call(store.client.images.Create, CreateImageRequest(image=Image(name=name, target=target)))
    absent = Descriptor(media_type=target.media_type, digest=digest(b"absent"), size=6)
    broken = Image(name="docker.io/library/broken:1", target=absent)
    await store.client.call(store.client.images.Create, CreateImageRequest(image=broken))

    (record,) = await store.images.list()

    assert set(record.repo_tags) == {"docker.io/library/by-ctr:1", f"{pusher.address}/{pusher.repository}:1"}
    await store.images.remove(image.id)
    assert await store.images.list() == []


@pytest.mark.behaviour("IMG-60", "IMG-61", "IMG-62")
async def test_filesystems(store: Store, pusher: Pusher) -> None:
    ((empty,), _) = await store.images.filesystems()
    await store.images.pull(pusher.image(new_image(3, 2 * MIB), "1"), None)

    ((used,), containers) = await store.images.filesystems()

    assert Path(used.mountpoint, "snapshots").is_dir()
    assert used.mountpoint == empty.mountpoint
    assert empty.used_bytes == 0
    assert 6 * MIB <= used.used_bytes < 8 * MIB
    assert used.inodes_used >= 3
    assert not containers


@pytest.mark.behaviour("IMG-12")
async def test_verbose(store: Store, pusher: Pusher) -> None:
    image = new_image()
    await store.images.pull(pusher.image(image, "1"), None)

    told = await store.images.verbose(image.id)

    assert told["chainID"] == chain_ids(parse_image_config(image.config).diff_ids)[-1]
    assert isinstance(told["imageSpec"], dict)
    with pytest.raises(NotFound):
        await store.images.verbose(digest(b"absent"))


async def test_containerd_restarts_in_the_middle_of_a_pull(own_containerd_node: ContainerdNode, pusher: Pusher) -> None:
    image = build_image({"big": LayerFile(random_tars(1, 8 * MIB)[0], 0o644)}, {})
    async with opened(own_containerd_node, "k8s.io") as store:
        before = {record.id for record in await store.images.list()}
        with PickyRegistry(image, Demands(stall_at_bytes=5 * MIB)) as picky:
            pull = asyncio.ensure_future(store.images.pull(picky.reference(), None))
            await asyncio.to_thread(picky.seen.stalled.wait, SOON_S)
            await store.until_ingested(3 * MIB)
            await asyncio.to_thread(own_containerd_node.restart)
            picky.demands.stall_at_bytes = -1
            with contextlib.suppress(CriError):
                async with asyncio.timeout(2 * SOON_S):
                    await pull
            async with asyncio.timeout(SOON_S):
                while True:
                    with contextlib.suppress(Unavailable):
                        assert await store.images.pull(picky.reference(), None) == image.config_digest
                        break
                    await asyncio.sleep(0.05)
        assert {record.id for record in await store.images.list()} - before == {image.config_digest}
