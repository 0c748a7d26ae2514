"""Labels that keep content, and say where it came from."""

from __future__ import annotations

import pytest

from cri_dockerd_py.backends.containerd.gc_labels import of_children, of_snapshot, of_source
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.distribution.media_types import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, OCI_MANIFEST


def named(*media_types: str) -> list[Descriptor]:
    """Return a descriptor of each type, whose digests are numbered."""
    return [Descriptor(media_type, f"sha256:{number}", 1) for number, media_type in enumerate(media_types)]


def test_children_of_a_manifest() -> None:
    children = named(DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER, "application/x-other")

    assert of_children(children) == {
        "containerd.io/gc.ref.content.config": "sha256:0",
        "containerd.io/gc.ref.content.l.0": "sha256:1",
        "containerd.io/gc.ref.content.l.1": "sha256:2",
        "containerd.io/gc.ref.content.0": "sha256:3",
    }


def test_children_of_an_index() -> None:
    assert of_children(named(OCI_MANIFEST, DOCKER_MANIFEST)) == {
        "containerd.io/gc.ref.content.m.0": "sha256:0",
        "containerd.io/gc.ref.content.m.1": "sha256:1",
    }


def test_snapshot_of_a_config() -> None:
    assert of_snapshot("overlayfs", "sha256:c") == {"containerd.io/gc.ref.snapshot.overlayfs": "sha256:c"}


@pytest.mark.parametrize(
    ("domain", "present", "value"),
    [
        ("r.example:5000", "", "team/app"),
        ("r.example", "team/app", None),
        ("r.example", "z/z,a/a", "a/a,team/app,z/z"),
        ("r.example", "x" * 4090, None),
    ],
)
def test_source(domain: str, present: str, value: str | None) -> None:
    key = "containerd.io/distribution.source.r.example"

    labels = of_source(domain, "team/app", {key: present} if present else {})

    assert labels == ({} if value is None else {key: value})


def test_source_by_address() -> None:
    assert of_source("[::1]:5000", "a", {}) == {"containerd.io/distribution.source.::1": "a"}
