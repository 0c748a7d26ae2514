"""Which image suits which machine."""

from __future__ import annotations

import pytest

from cri_dockerd_py.distribution.descriptor import Descriptor, Platform, digest_of
from cri_dockerd_py.distribution.media_types import OCI_MANIFEST
from cri_dockerd_py.distribution.platform import in_order, normalize, suitable


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("linux", "x86_64"), "linux/amd64"),
        (("Linux", "AMD64", "v1"), "linux/amd64"),
        (("linux", "amd64", "v3"), "linux/amd64/v3"),
        (("linux", "aarch64", "v8"), "linux/arm64"),
        (("linux", "arm64", "8"), "linux/arm64"),
        (("linux", "armhf"), "linux/arm/v7"),
        (("linux", "armel"), "linux/arm/v6"),
        (("linux", "armv7l"), "linux/arm/v7"),
        (("linux", "arm"), "linux/arm/v7"),
        (("linux", "i686"), "linux/386"),
        (("linux", "riscv64"), "linux/riscv64"),
    ],
)
def test_normal_forms(words: tuple[str, ...], expected: str) -> None:
    assert str(normalize(*words)) == expected


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (Platform("linux", "amd64"), "linux/amd64 linux/386"),
        (Platform("linux", "amd64", "v3"), "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
        (Platform("linux", "arm64"), "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        (Platform("linux", "arm", "v6"), "linux/arm/v6 linux/arm/v5"),
        (Platform("linux", "s390x"), "linux/s390x"),
    ],
)
def test_what_runs_where(platform: Platform, expected: str) -> None:
    assert " ".join(map(str, suitable(platform))) == expected


def _manifest(name: str, platform: Platform | None) -> Descriptor:
    return Descriptor(OCI_MANIFEST, digest_of(name.encode()), 1, platform=platform)


def test_the_best_comes_first_and_what_says_nothing_last() -> None:
    silent = _manifest("silent", None)
    old = _manifest("old", Platform("linux", "386"))
    first, second = (_manifest(name, Platform("linux", "amd64")) for name in ("first", "second"))
    other = _manifest("other", Platform("linux", "arm64"))
    attestation = _manifest("attestation", Platform("unknown", "unknown"))
    found = in_order([silent, attestation, old, first, other, second], Platform("linux", "amd64"))
    assert found == (first, second, old, silent)
