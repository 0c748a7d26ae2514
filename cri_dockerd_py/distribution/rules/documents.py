"""Indexes, manifests and configs: read strictly, since whoever controls a registry writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.distribution import media_types, platform
from cri_dockerd_py.distribution.descriptor import Descriptor, Platform, is_digest
from cri_dockerd_py.distribution.media_types import Kind, kind_of

#: The most that an index, a manifest or a config may have.
DOCUMENT_LIMIT_BYTES = 4 << 20
_BLOB_LIMIT_BYTES = 1 << 40
_LAYERS_LIMIT = 500  # as many as the kernel's overlay stacks
_MANIFESTS_LIMIT = 2000
_SHOWN = 120


class BadDocument(ValueError):
    """A document that is no image, or is not what it should be; the text says why."""


@dataclass(frozen=True, slots=True)
class Index:
    """Manifests of one image for several platforms, attestations among them, in document order."""

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its config and its layers from the lowest up."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """What a pull has to know of an image's config; `platform` is None where it says none."""

    platform: Platform | None
    diff_ids: tuple[str, ...]


def parse_index(content: bytes, media_type: str) -> Index:
    """Return the index that `content` of this media type is, or raise BadDocument."""
    document = _document(content, media_type)
    if "config" in document or "layers" in document:
        raise BadDocument("it is called an index and has the shape of a manifest")
    manifests = _items(document, "manifests", _MANIFESTS_LIMIT)
    return Index(tuple(_descriptor(item, "a manifest") for item in manifests))


def parse_manifest(content: bytes, media_type: str) -> Manifest:
    """Return the image manifest that `content` of this media type is, or raise BadDocument."""
    document = _document(content, media_type)
    if "manifests" in document:
        raise BadDocument("it is called a manifest and has the shape of an index")
    config = _descriptor(document.get("config"), "the config")
    if kind_of(config.media_type) is not Kind.CONFIG:
        raise BadDocument(f"it is an artifact with a config of type {_shown(config.media_type)}, not a container image")
    if config.size > DOCUMENT_LIMIT_BYTES:
        raise BadDocument(f"its config of {config.size} bytes is larger than any that is read")
    layers = tuple(_descriptor(item, "a layer") for item in _items(document, "layers", _LAYERS_LIMIT))
    for layer in layers:
        if kind_of(layer.media_type) is not Kind.LAYER:
            raise BadDocument(f"a layer has the type {_shown(layer.media_type)}, which cannot be unpacked")
    _one_size_each((config, *layers))
    return Manifest(config, layers)


def parse_config(content: bytes, layer_count: int) -> ConfigFacts:
    """Return what the config of an image with so many layers says, or raise BadDocument."""
    document = _object(content)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise BadDocument("its config has no rootfs of type 'layers'")
    diff_ids = tuple(rootfs.get("diff_ids") or ()) if isinstance(rootfs.get("diff_ids"), list | None) else ("",)
    if not all(is_digest(diff_id) for diff_id in diff_ids):
        raise BadDocument("its config has a diff id that is no digest")
    if len(diff_ids) != layer_count:
        raise BadDocument(f"its manifest has {layer_count} layers and its config {len(diff_ids)} diff ids")
    return ConfigFacts(_platform(document), diff_ids)


def media_type_in(content: bytes) -> str:
    """Return the media type of an index or manifest that was sent without one, "" when it is neither."""
    document = _object(content)
    said = document.get("mediaType")
    if isinstance(said, str) and said in media_types.INDEXES | media_types.MANIFESTS:
        return said
    if said is not None or document.get("schemaVersion") != 2:
        return ""
    if "manifests" in document:
        return media_types.OCI_INDEX
    return media_types.OCI_MANIFEST if "config" in document else ""


def _document(content: bytes, media_type: str) -> Mapping[str, Any]:
    document = _object(content)
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise BadDocument("it is in schema 1, which is no longer supported: push the image again with current tools")
    if document.get("schemaVersion") != 2:
        raise BadDocument("its schemaVersion is not 2")
    said = document.get("mediaType")
    if said is not None and said != media_type:
        raise BadDocument(f"it was announced as {_shown(media_type)} and says that it is {_shown(said)}")
    return document


def _object(content: bytes) -> Mapping[str, Any]:
    if len(content) > DOCUMENT_LIMIT_BYTES:
        raise BadDocument(f"it is larger than {DOCUMENT_LIMIT_BYTES} bytes")
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadDocument("it is not JSON") from None
    if not isinstance(document, dict):
        raise BadDocument("it is no JSON object")
    return document


def _items(document: Mapping[str, Any], key: str, limit: int) -> Sequence[object]:
    items = document.get(key)
    if not isinstance(items, list):
        raise BadDocument(f"it has no list of {key}")
    if len(items) > limit:
        raise BadDocument(f"it has {len(items)} {key}; at most {limit} are supported")
    return items


def _descriptor(value: object, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise BadDocument(f"{what} is not described")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not media_type:
        raise BadDocument(f"{what} has no media type")
    if not isinstance(digest, str) or not is_digest(digest):
        raise BadDocument(f"{what} has {_shown(digest)} in the place of a digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= _BLOB_LIMIT_BYTES:
        raise BadDocument(f"{what} has the size {_shown(size)}")
    return Descriptor(media_type, digest, size, _annotations(value.get("annotations"), what), _said_platform(value))


def _annotations(value: object, what: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BadDocument(f"{what} has annotations that are not texts")
    return value


def _said_platform(value: Mapping[str, Any]) -> Platform | None:
    given = value.get("platform")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise BadDocument("a manifest has a platform that is no object")
    return _platform(given) or Platform("", "")


def _platform(value: Mapping[str, Any]) -> Platform | None:
    words = [value.get(key, "") for key in ("os", "architecture", "variant")]
    if not all(isinstance(word, str) for word in words):
        raise BadDocument("its platform is not made of texts")
    return platform.normalize(*words) if any(words) else None


def _one_size_each(blobs: Sequence[Descriptor]) -> None:
    sizes: dict[str, int] = {}
    for blob in blobs:
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            raise BadDocument(f"it gives {blob.digest} two sizes")


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]
