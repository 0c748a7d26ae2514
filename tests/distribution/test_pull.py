"""What a pull fetches, in which order, and what it leaves in the sink."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection

import pytest
from aiohttp import web

from cri_dockerd_py.distribution import media_types
from cri_dockerd_py.distribution.pulled_image import PulledImage
from cri_dockerd_py.distribution.rules.documents import DOCUMENT_LIMIT_BYTES
from cri_dockerd_py.errors import NotFound, Unknown
from tests.distribution.fake_registry import Answer, FakeRegistry, status
from tests.distribution.images import REPOSITORY, Pushed, config_of, push
from tests.distribution.memory_sink import MemorySink
from tests.distribution.pulling import Puller


def _index(fake: FakeRegistry, *entries: dict[str, object]) -> dict[str, object]:
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": list(entries)}
    return fake.put_document(media_types.OCI_INDEX, document, "1")


def _on(image: Pushed, architecture: str) -> dict[str, object]:
    return {**image.manifest, "platform": {"os": "linux", "architecture": architecture}}


@pytest.mark.parametrize("oci", [True, False])
async def test_an_image_by_tag(fake: FakeRegistry, puller: Puller, oci: bool) -> None:
    pushed = push(fake, "1", layers=[b"lower" * 1000, b"upper"], oci=oci)
    image = await puller(fake.address)
    assert image.target == image.manifest
    assert image.manifest.digest == pushed.manifest["digest"]
    assert image.config_bytes == pushed.config
    assert tuple(layer.digest for layer in image.layers) == image.diff_ids == pushed.layer_digests
    assert image.children == {image.manifest.digest: (image.config, *image.layers)}
    assert {*pushed.layers, pushed.config} < set(puller.sink.blobs.values())
    assert len(puller.sink.blobs) == 4
    assert fake.paths("HEAD") == ["1"]
    assert fake.paths()[:2] == [image.manifest.digest, image.config.digest]


async def test_an_image_by_digest(fake: FakeRegistry, puller: Puller) -> None:
    pushed = push(fake)
    image = await puller(fake.address, f"@{pushed.manifest['digest']}")
    assert image.target.digest == pushed.manifest["digest"]


async def test_what_is_there_is_not_fetched(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1", layers=[b"one", b"two"])
    first = await puller(fake.address)
    fake.asked.clear()
    assert await puller(fake.address) == first
    assert [asked.method for asked in fake.asked] == ["HEAD"]


async def test_the_best_manifest_of_an_index(fake: FakeRegistry, puller: Puller) -> None:
    arm, amd = (push(fake, architecture=name) for name in ("arm64", "amd64"))
    attestation = {**push(fake).manifest, "platform": {"os": "unknown", "architecture": "unknown"}}
    target = _index(fake, _on(arm, "arm64"), attestation, _on(amd, "amd64"))
    image = await puller(fake.address)
    assert (image.target.digest, image.manifest.digest) == (target["digest"], amd.manifest["digest"])
    assert [child.digest for child in image.children[image.target.digest]] == [
        arm.manifest["digest"],
        attestation["digest"],
        amd.manifest["digest"],
    ]
    assert arm.manifest["digest"] not in puller.sink.blobs


async def test_an_index_that_says_no_platforms(fake: FakeRegistry, puller: Puller) -> None:
    arm, amd = (push(fake, architecture=name) for name in ("arm64", "amd64"))
    _index(fake, arm.manifest, amd.manifest)
    assert (await puller(fake.address)).manifest.digest == amd.manifest["digest"]


async def test_a_manifest_that_is_larger_than_any_is_not_asked_for(fake: FakeRegistry, puller: Puller) -> None:
    entry = _on(push(fake), "amd64")
    _index(fake, {**entry, "size": DOCUMENT_LIMIT_BYTES + 1})
    with pytest.raises(Unknown, match=f"{DOCUMENT_LIMIT_BYTES + 1} bytes is larger than any"):
        await puller(fake.address)
    assert entry["digest"] not in fake.paths()


async def test_an_index_in_an_index(fake: FakeRegistry, puller: Puller) -> None:
    amd = push(fake)
    inner = _index(fake, _on(amd, "amd64"))
    outer = _index(fake, inner)
    image = await puller(fake.address)
    assert (image.target.digest, image.manifest.digest) == (outer["digest"], amd.manifest["digest"])
    assert set(image.children) == {outer["digest"], inner["digest"], amd.manifest["digest"]}


async def test_no_image_for_the_platform(fake: FakeRegistry, puller: Puller) -> None:
    arm = push(fake, "1", architecture="arm64")
    with pytest.raises(NotFound, match="linux/amd64"):
        await puller(fake.address)
    _index(fake, _on(arm, "arm64"))
    with pytest.raises(NotFound, match="linux/amd64"):
        await puller(fake.address)


@pytest.mark.behaviour("IMG-41")
async def test_what_the_registry_does_not_have(fake: FakeRegistry, puller: Puller) -> None:
    with pytest.raises(NotFound, match=rf"^{fake.address}/{REPOSITORY}:1 is not found at {fake.address}"):
        await puller(fake.address)
    pushed = push(fake, "1")
    del fake.blobs[pushed.layer_digests[0]]
    with pytest.raises(NotFound, match=pushed.layer_digests[0]):
        await puller(fake.address)


async def test_a_registry_without_head(fake: FakeRegistry, puller: Puller) -> None:
    pushed = push(fake, "1")
    fake.instead[f"/v2/{REPOSITORY}/manifests/1"] = _without_head(fake)
    assert (await puller(fake.address)).manifest.digest == pushed.manifest["digest"]
    assert fake.paths()[0] == "1"
    assert pushed.manifest["digest"] not in fake.paths(), "what came with the tag is fetched again"


def _without_head(fake: FakeRegistry) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD":
            return await status(405)(request)
        return await status(200, fake.documents["1"][1], Content_Type="application/json")(request)

    return answer


async def test_layers_that_are_not_wanted(fake: FakeRegistry, puller: Puller) -> None:
    pushed = push(fake, "1", layers=[b"one", b"two", b"three"])
    hooks = _Hooks([1, 2])
    await puller(fake.address, layers=hooks)
    assert pushed.layer_digests[0] not in puller.sink.blobs
    assert sorted(hooks.heard) == [1, 2]
    assert hooks.image is not None
    assert len(hooks.image.layers) == 3


async def test_a_layer_that_occurs_twice_is_fetched_once(fake: FakeRegistry, puller: Puller) -> None:
    pushed = push(fake, "1", layers=[b"same", b"other", b"same"])
    hooks = _Hooks(range(3))
    await puller(fake.address, layers=hooks)
    assert sorted(hooks.heard) == [0, 1, 2]
    assert fake.paths().count(pushed.layer_digests[0]) == 1


async def test_an_image_without_layers(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1", layers=[])
    assert (await puller(fake.address)).layers == ()


async def test_layers_are_fetched_beside_each_other_within_a_limit(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1", layers=[secrets.token_bytes(2000) for _ in range(8)])
    hooks = _Hooks(range(8), then=puller.sink.room.clear)
    async with asyncio.timeout(20), asyncio.TaskGroup() as jobs:
        job = jobs.create_task(puller(fake.address, layers=hooks, max_parallel=3))
        await puller.sink.crowd.wait()
        assert not job.done()
        puller.sink.room.set()
    assert puller.sink.most_writers == 3
    assert sorted(hooks.heard) == list(range(8))


async def test_what_comes_is_told_once_and_while_it_comes(fake: FakeRegistry, puller: Puller) -> None:
    content = secrets.token_bytes(3_000_000)
    push(fake, "1", layers=[content])
    await puller(fake.address)
    assert max(puller.pieces) < len(content)
    assert sum(puller.pieces) == sum(map(len, puller.sink.blobs.values()))

    puller.pieces.clear()
    await puller(fake.address)
    assert sum(puller.pieces) == 0


async def test_content_that_the_store_has_elsewhere_is_only_committed(
    fake: FakeRegistry, puller: Puller, sink: MemorySink
) -> None:
    pushed = push(fake, "1")
    contents = [*fake.blobs.items(), (pushed.manifest["digest"], fake.documents["1"][1])]
    sink.parts = dict(contents)
    await puller(fake.address)
    assert sink.blobs == dict(contents)
    assert [asked.method for asked in fake.asked] == ["HEAD"]


async def test_what_the_sink_raises_goes_through(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1", layers=[b"one", b"two"])
    hooks = _Hooks(range(2), then=lambda: setattr(puller.sink, "open", _full))
    with pytest.raises(OSError, match="disk is full"):
        await puller(fake.address, layers=hooks)


async def _full(*_: object) -> None:
    raise OSError("disk is full")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"not json", "no image"),
        ({"schemaVersion": 1, "mediaType": media_types.OCI_MANIFEST}, "schema 1"),
        ({"schemaVersion": 2, "manifests": []}, "shape of an index"),
    ],
)
async def test_manifests_that_are_none(fake: FakeRegistry, puller: Puller, document: object, why: str) -> None:
    fake.put_document(media_types.OCI_MANIFEST, document, "1")
    with pytest.raises(Unknown, match=why):
        await puller(fake.address)


async def test_a_config_of_another_image(fake: FakeRegistry, puller: Puller) -> None:
    config = config_of(["sha256:" + "0" * 64] * 2)
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": media_types.OCI_CONFIG, "digest": fake.put_blob(config), "size": len(config)},
        "layers": [],
    }
    fake.put_document(media_types.OCI_MANIFEST, document, "1")
    with pytest.raises(Unknown, match="0 layers and its config 2"):
        await puller(fake.address)


class _Hooks:
    """Wants some layers, and notes what it hears."""

    def __init__(self, wanted: Collection[int], then: object = None) -> None:
        self.image: PulledImage | None = None
        self.heard: list[int] = []
        self._wanted = wanted
        self._then = then

    async def wanted(self, image: PulledImage) -> Collection[int]:
        self.image = image
        if callable(self._then):
            self._then()
        return self._wanted

    def ready(self, index: int) -> None:
        self.heard.append(index)
