"""The archives of `docker save` and `docker load`: which of their members is what; pure."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.backends.archive_stream import Member
from cri_dockerd_py.errors import Unknown

MANIFEST = "manifest.json"
_DOCUMENT_LIMIT_BYTES = 8 << 20
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
# the first bytes of a layer → its media type
_COMPRESSED = {b"\x1f\x8b": f"{_LAYER_TYPE}.gzip", b"\x28\xb5\x2f\xfd": f"{_LAYER_TYPE}.zstd"}


@dataclass(frozen=True, slots=True)
class ArchivedLayer:
    """A layer that was in an archive."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """The image of an archive; as many layers as `diff_ids`, bottom first."""

    config: bytes
    layers: tuple[ArchivedLayer, ...]
    diff_ids: tuple[str, ...]


def is_document(member: Member, first: bytes) -> bool:
    """Whether a member is JSON or such, by its name and its first bytes, and no layer."""
    if member.name.endswith("/layer.tar") or member.size > _DOCUMENT_LIMIT_BYTES:
        return False
    return not member.name.startswith("blobs/") or first[:1] in (b"{", b"[")


def read_archived(
    documents: Mapping[str, bytes], layers: Mapping[str, tuple[str, int, bytes]], links: Mapping[str, str]
) -> ArchivedImage:
    """Return the one image of an archive; `layers` are (digest, size, first bytes) by name, `links` targets by name."""
    try:
        (entry,) = _json(documents[MANIFEST])
        config = documents[entry["Config"]]
        diff_ids = tuple(_json(config)["rootfs"]["diff_ids"])
        found = tuple(_layer(name, layers, links) for name in entry["Layers"] or ())
    except (KeyError, TypeError, ValueError) as error:
        raise Unknown(f"the archive of an image is not whole: {type(error).__name__} {error}") from error
    if len(found) != len(diff_ids):
        raise Unknown(f"the archive of an image has {len(found)} layers, and its configuration names {len(diff_ids)}")
    return ArchivedImage(config, found, diff_ids)


def _layer(name: str, layers: Mapping[str, tuple[str, int, bytes]], links: Mapping[str, str]) -> ArchivedLayer:
    for _ in range(len(links) + 1):
        if name not in links:
            break
        name = posixpath.normpath(posixpath.join(posixpath.dirname(name), links[name]))
    digest, size, first = layers[name]
    media_type = next((kind for magic, kind in _COMPRESSED.items() if first.startswith(magic)), _LAYER_TYPE)
    return ArchivedLayer(media_type, digest, size)


def _json(content: bytes) -> Any:
    return json.loads(content)
