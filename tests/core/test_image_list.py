"""One list of images over several engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cri_dockerd_py.core.image_list import ImageList
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.model.image import ImageRecord
from tests.core.test_inventory import container

ONE, TWO, THREE = ("sha256:" + digit * 64 for digit in "123")
TAG, OTHER_TAG = "docker.io/library/x:1", "docker.io/library/x:2"
DIGEST = "docker.io/library/x@sha256:" + "d" * 64


def image(image_id: str, *tags: str, digests: tuple[str, ...] = (), size: int = 10) -> ImageRecord:
    return ImageRecord(image_id, tags, digests, size)


def put_all(images: ImageList, engine: str, records: Sequence[ImageRecord]) -> None:
    with images.reading(engine) as reading:
        images.put_all(reading, records)


@pytest.mark.behaviour("IMG-67", "IMG-07")
def test_an_image_of_two_engines_appears_once() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG)])
    put_all(images, "containerd", [image(ONE, TAG, OTHER_TAG, digests=(DIGEST,))])

    [shown] = images.merged.values()
    assert (shown.id, shown.repo_tags, shown.repo_digests, shown.size_bytes) == (ONE, (TAG, OTHER_TAG), (DIGEST,), 20)
    assert images.owners(ONE).keys() == {"docker", "containerd"}


@pytest.mark.behaviour("IMG-67", "CST-05")
def test_engines_that_differ_in_the_id_are_linked_by_the_digest() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG, digests=(DIGEST,))])
    put_all(images, "containerd", [image(TWO, TAG, digests=(DIGEST,))])

    assert list(images.merged) == [ONE]
    assert (images.shown_id(TWO), images.find(TWO), images.find("sha256:222")) == (
        ONE,
        images.merged[ONE],
        images.merged[ONE],
    )
    assert images.find_on("containerd", ONE) == image(TWO, TAG, digests=(DIGEST,))
    assert images.take_decided() == {TWO: ONE}
    assert not images.take_decided()


@pytest.mark.behaviour("IMG-64")
def test_a_shown_id_stays_when_the_engine_that_gave_it_has_the_image_no_more() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG, digests=(DIGEST,))])
    put_all(images, "containerd", [image(TWO, TAG, digests=(DIGEST,))])
    decided = images.take_decided()
    images.drop("docker", ONE)
    assert list(images.merged) == [ONE]

    restarted = ImageList()
    restarted.restore(decided)
    put_all(restarted, "containerd", [image(TWO, TAG, digests=(DIGEST,))])
    assert list(restarted.merged) == [ONE]
    assert restarted.find_on("containerd", ONE) == image(TWO, TAG, digests=(DIGEST,))


@pytest.mark.behaviour("IMG-64", "CST-05")
def test_containers_name_the_id_that_is_shown() -> None:
    inventory = Inventory()
    put_all(inventory.image_list, "docker", [image(ONE, digests=(DIGEST,))])
    put_all(inventory.image_list, "containerd", [image(TWO, digests=(DIGEST,))])
    assert inventory.put_container(replace(container(), image_id=TWO)).image_id == ONE


@pytest.mark.behaviour("IMG-67", "IMG-32")
def test_a_tag_means_what_the_engine_of_the_next_container_calls_so() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG)])
    put_all(images, "containerd", [image(TWO, TAG, OTHER_TAG)])
    images.prefer("docker")
    assert images.find(TAG) == image(ONE, TAG)
    assert images.merged[TWO].repo_tags == (OTHER_TAG,)

    images.prefer("containerd")
    assert images.find(TAG) == image(TWO, TAG, OTHER_TAG)
    assert images.merged[ONE].repo_tags == ()
    assert images.find_on("docker", TAG) == image(ONE, TAG)


def test_the_generation_changes_with_the_list_alone() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG), image(THREE)])
    generation = images.generation
    put_all(images, "docker", [image(ONE, TAG), image(THREE)])
    assert images.generation == generation
    images.drop("docker", THREE)
    assert images.generation > generation


@pytest.mark.behaviour("IMG-67", "IMG-02")
def test_digests_that_an_engine_cannot_keep_are_known_for_good() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG)])
    images.know_digests(ONE, [DIGEST])
    assert images.on("docker")[ONE].repo_digests == (DIGEST,)

    put_all(images, "docker", [])
    assert images.find(DIGEST) is None
    images.put("docker", image(ONE, OTHER_TAG))
    found = images.find_on("docker", DIGEST)
    assert found is not None
    assert (found.id, found.repo_tags, found.repo_digests) == (ONE, (OTHER_TAG,), (DIGEST,))


@pytest.mark.behaviour("IMG-67", "CST-05")
def test_a_copy_under_another_id_is_the_same_image_also_without_a_digest() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG)])
    put_all(images, "containerd", [])
    images.know_copy(ONE, TWO)
    put_all(images, "containerd", [image(TWO, TAG)])

    assert images.merged.keys() == images.shown_on("docker").keys() == images.shown_on("containerd").keys() == {ONE}
    assert images.shown_on("containerd")[ONE].id == TWO
    assert images.take_decided() == {TWO: ONE}

    images.know_copy(TWO, ONE)
    put_all(images, "docker", [])
    assert images.merged.keys() == images.shown_on("containerd").keys() == {ONE}
    assert not images.take_decided()


@pytest.mark.behaviour("IMG-20")
def test_what_changes_while_an_engine_is_read_is_newer_than_what_it_answers() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG), image(TWO)])
    with images.reading("docker") as reading:
        images.put("docker", image(THREE, TAG))
        images.drop("docker", TWO)
        images.put("containerd", image(TWO))
        images.put_all(reading, [image(ONE, TAG, OTHER_TAG), image(TWO)])
    assert images.on("docker") == {ONE: image(ONE), THREE: image(THREE, TAG)}

    put_all(images, "docker", [image(ONE, OTHER_TAG), image(TWO)])
    assert images.on("docker") == {ONE: image(ONE, OTHER_TAG), TWO: image(TWO)}


@pytest.mark.behaviour("IMG-20")
def test_of_two_readings_that_overlap_the_one_that_began_last_is_right() -> None:
    images = ImageList()
    put_all(images, "docker", [image(ONE, TAG)])
    with images.reading("docker") as first, images.reading("docker") as last:
        images.put_all(last, [image(TWO)])
        images.put_all(first, [image(ONE, TAG)])
    assert images.on("docker") == {TWO: image(TWO)}

    with images.reading("docker") as first, images.reading("docker") as last:
        images.put_all(first, [image(ONE)])
        images.put_all(last, [image(THREE)])
    assert images.on("docker") == {THREE: image(THREE)}
