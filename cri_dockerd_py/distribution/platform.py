"""Platforms: in normal form, and which of several images suits one best."""

from __future__ import annotations

from collections.abc import Iterable

from cri_dockerd_py.distribution.descriptor import Descriptor, Platform

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "aarch64": "arm64",
    "loongarch64": "loong64",
}
_ARM = {"armhf": "v7", "armel": "v6", "armv8l": "v8", "armv7l": "v7", "armv6l": "v6", "armv5tel": "v5"}
_OLDEST_ARM = 5
_OLDEST = {"amd64": 1, "arm64": 8, "arm": _OLDEST_ARM}
_UNSAID = {"amd64": "v1", "arm64": "v8"}


def normalize(os: str, architecture: str, variant: str = "") -> Platform:
    """Return a platform in normal form from the words of an image, or of `uname -m` and `linux`."""
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    if architecture in _ARM:
        architecture, variant = "arm", variant or _ARM[architecture]
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if variant.isdecimal():
        variant = f"v{variant}"
    if architecture == "arm" and not variant:
        variant = "v7"
    if variant == _UNSAID.get(architecture):
        variant = ""
    return Platform("darwin" if os == "macos" else os, architecture, variant)


def suitable(wanted: Platform) -> tuple[Platform, ...]:
    """Return the platforms whose images run on `wanted`, the best first."""
    found = list(_variants(wanted.os, wanted.architecture, wanted.variant))
    if wanted.architecture == "amd64":
        found.append(Platform(wanted.os, "386"))
    if wanted.architecture == "arm64":
        found += _variants(wanted.os, "arm", "v8")
    return tuple(found)


def in_order(manifests: Iterable[Descriptor], wanted: Platform) -> tuple[Descriptor, ...]:
    """Return the manifests of an index that may suit, the best first; those that say no platform come last."""
    ranks = {platform: rank for rank, platform in enumerate(suitable(wanted))}
    ranked = [
        (len(ranks) if manifest.platform is None else ranks[manifest.platform], manifest)
        for manifest in manifests
        if manifest.platform is None or manifest.platform in ranks
    ]
    return tuple(manifest for _, manifest in sorted(ranked, key=lambda pair: pair[0]))


def _variants(os: str, architecture: str, variant: str) -> Iterable[Platform]:
    """Yield the variant and those before it: what runs on a later one runs there too."""
    number = (variant or _UNSAID.get(architecture, "")).removeprefix("v")
    if architecture not in _OLDEST or not number.isdecimal():
        yield Platform(os, architecture, variant)
        return
    for older in range(int(number), _OLDEST[architecture] - 1, -1):
        yield normalize(os, architecture, f"v{older}")
