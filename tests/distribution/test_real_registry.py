"""Pulls from a real registry."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from cri_dockerd_py.distribution import media_types
from cri_dockerd_py.distribution.pull import pull
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.errors import NotFound
from cri_dockerd_py.model.image_ref import parse_reference
from cri_dockerd_py.pause.archive import BuiltImage, LayerFile, build_image, digest
from tests.behaviour.registries import by_digest, push
from tests.distribution.memory_sink import MemorySink
from tests.distribution.pulling import AMD64
from tests.engines import RegistryServer


@pytest.fixture
def image() -> BuiltImage:
    """An image that nobody else has."""
    return build_image({"big": LayerFile(secrets.token_bytes(5_000_000), 0o644)}, {"Cmd": ["/big"]})


@pytest.fixture
def repository() -> str:
    """A repository that nobody else uses."""
    return f"distribution/{secrets.token_hex(6)}"


@pytest.mark.behaviour("IMG-04", "IMG-05")
async def test_by_tag_and_by_digest(
    registry: RegistryServer, repository: str, image: BuiltImage, sink: MemorySink
) -> None:
    by_tag = push(registry.address, repository, "one", image)
    for reference in (by_tag, by_digest(registry.address, repository, image)):
        pulled = await pull(Registry(), parse_reference(reference), None, sink, platform=AMD64)
        assert pulled.target.digest == digest(image.manifest())
        assert pulled.target.media_type == media_types.DOCKER_MANIFEST
    assert set(sink.blobs.values()) == {image.manifest(), image.config, image.layer}


async def test_a_part_that_is_there_already(
    registry: RegistryServer, repository: str, image: BuiltImage, sink: MemorySink
) -> None:
    reference = parse_reference(push(registry.address, repository, "one", image))
    sink.parts[image.layer_digest] = image.layer[:3_000_000]
    pieces: list[int] = []
    await pull(Registry(), reference, None, sink, platform=AMD64, on_fetched=pieces.append)
    assert sink.blobs[image.layer_digest] == image.layer
    assert sum(pieces) == sum(map(len, sink.blobs.values())) - 3_000_000


async def test_names_that_it_does_not_know(
    registry: RegistryServer, repository: str, image: BuiltImage, sink: MemorySink
) -> None:
    reference = push(registry.address, repository, "one", image)
    for name in (f"{reference}-other", f"{registry.address}/no/such:1", f"{reference}@sha256:{'0' * 64}"):
        with pytest.raises(NotFound, match="not found"):
            await pull(Registry(), parse_reference(name), None, sink, platform=AMD64)


async def test_ten_pulls_at_once(registry: RegistryServer, repository: str, image: BuiltImage) -> None:
    reference = parse_reference(push(registry.address, repository, "one", image))
    client = Registry()
    sinks = [MemorySink() for _ in range(10)]
    await asyncio.gather(*(pull(client, reference, None, sink, platform=AMD64) for sink in sinks))
    assert all(sink.blobs[image.layer_digest] == image.layer for sink in sinks)
