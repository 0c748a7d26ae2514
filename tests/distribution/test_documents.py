"""Indexes, manifests and configs, good and bad."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.distribution import media_types as types
from cri_dockerd_py.distribution.descriptor import Platform, digest_of
from cri_dockerd_py.distribution.rules.documents import (
    BadDocument,
    media_type_in,
    parse_config,
    parse_index,
    parse_manifest,
)

_DIGEST = digest_of(b"something")
_OTHER = digest_of(b"other")


def _blob(media_type: str, digest: object = _DIGEST, size: object = 7, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def _manifest(**changes: object) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": types.OCI_MANIFEST,
        "config": _blob(types.OCI_CONFIG),
        "layers": [_blob(types.OCI_LAYER + "+gzip", _OTHER), _blob(types.OCI_LAYER + "+zstd", size=7)],
        **changes,
    }


def _index(**changes: object) -> dict[str, object]:
    entry = _blob(types.OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64", "variant": "v8"})
    return {"schemaVersion": 2, "mediaType": types.OCI_INDEX, "manifests": [entry], **changes}


def _bytes(document: object) -> bytes:
    return json.dumps(document).encode()


def test_a_manifest_of_oci() -> None:
    manifest = parse_manifest(_bytes(_manifest()), types.OCI_MANIFEST)
    assert manifest.config.media_type == types.OCI_CONFIG
    assert [layer.digest for layer in manifest.layers] == [_OTHER, _DIGEST]
    assert [layer.size for layer in manifest.layers] == [7, 7]


def test_a_manifest_of_docker_with_its_layers() -> None:
    layers = [
        _blob(f"{base}{suffix}")
        for base in (types.DOCKER_LAYER, types.DOCKER_LAYER_FOREIGN)
        for suffix in ("", ".gzip")
    ]
    document = _manifest(mediaType=types.DOCKER_MANIFEST, config=_blob(types.DOCKER_CONFIG), layers=layers)
    assert len(parse_manifest(_bytes(document), types.DOCKER_MANIFEST).layers) == 4


def test_the_media_type_may_be_left_out() -> None:
    document = _manifest()
    del document["mediaType"]
    assert parse_manifest(_bytes(document), types.OCI_MANIFEST).layers


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schemaVersion": 1}, "schema 1"),
        ({"fsLayers": []}, "schema 1"),
        ({"schemaVersion": 3}, "schemaVersion"),
        ({"mediaType": types.DOCKER_MANIFEST}, "announced"),
        ({"mediaType": 7}, "announced"),
        ({"manifests": []}, "shape of an index"),
        ({"config": None}, "the config is not described"),
        ({"config": _blob("application/vnd.cncf.helm.config.v1+json")}, "artifact"),
        ({"config": _blob(types.OCI_CONFIG, size=1 << 30)}, "larger"),
        ({"layers": None}, "no list of layers"),
        ({"layers": {}}, "no list of layers"),
        ({"layers": [7]}, "a layer is not described"),
        ({"layers": [_blob(types.OCI_LAYER, size=0)]}, "size 0"),
        ({"layers": [_blob(types.OCI_LAYER, size=-1)]}, "size -1"),
        ({"layers": [_blob(types.OCI_LAYER, size=True)]}, "size True"),
        ({"layers": [_blob(types.OCI_LAYER, size=1.5)]}, "size 1.5"),
        ({"layers": [_blob(types.OCI_LAYER, size=1 << 60)]}, "size"),
        ({"layers": [_blob(types.OCI_LAYER, size=8)]}, "two sizes"),
        ({"layers": [_blob(types.OCI_LAYER, "sha256:../../etc/passwd")]}, "in the place of a digest"),
        ({"layers": [_blob(types.OCI_LAYER, _DIGEST.upper())]}, "in the place of a digest"),
        ({"layers": [_blob(types.OCI_LAYER, ["x"])]}, "in the place of a digest"),
        ({"layers": [_blob("")]}, "no media type"),
        ({"layers": [_blob("application/x-tar")]}, "cannot be unpacked"),
        ({"layers": [_blob(types.OCI_LAYER + "+gzip+encrypted")]}, "cannot be unpacked"),
        ({"layers": [_blob(types.OCI_LAYER, annotations={"a": 1})]}, "annotations"),
        ({"layers": [_blob(types.OCI_LAYER)] * 501}, "at most 500"),
    ],
)
def test_manifests_that_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadDocument, match=why):
        parse_manifest(_bytes(_manifest(**changes)), types.OCI_MANIFEST)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'"x"', b"{", b"\xff\xfe", b"[" * 10**6, b"9" * 10**5, b" " * (5 << 20)], ids=range(8)
)
def test_what_is_no_document(content: bytes) -> None:
    for parse in (parse_manifest, parse_index):
        with pytest.raises(BadDocument):
            parse(content, types.OCI_INDEX)
    with pytest.raises(BadDocument):
        parse_config(content, 0)


def test_an_index() -> None:
    (manifest,) = parse_index(_bytes(_index()), types.OCI_INDEX).manifests
    assert manifest.platform == Platform("linux", "arm64")
    assert parse_index(_bytes(_index(mediaType=types.DOCKER_INDEX)), types.DOCKER_INDEX).manifests == (manifest,)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": {}}, "shape of a manifest"),
        ({"layers": []}, "shape of a manifest"),
        ({"manifests": "x"}, "no list"),
        ({"manifests": [_blob(types.OCI_MANIFEST)] * 2001}, "at most 2000"),
        ({"manifests": [_blob(types.OCI_MANIFEST, platform="linux")]}, "platform"),
        ({"manifests": [_blob(types.OCI_MANIFEST, platform={"os": 1})]}, "platform"),
        ({"mediaType": types.OCI_MANIFEST}, "announced"),
    ],
)
def test_indexes_that_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadDocument, match=why):
        parse_index(_bytes(_index(**changes)), types.OCI_INDEX)


def _config(**changes: object) -> dict[str, object]:
    rootfs = {"type": "layers", "diff_ids": [_DIGEST, _OTHER]}
    return {"architecture": "amd64", "os": "linux", "rootfs": rootfs, **changes}


def test_a_config() -> None:
    facts = parse_config(_bytes(_config()), 2)
    assert facts.diff_ids == (_DIGEST, _OTHER)
    assert facts.platform == Platform("linux", "amd64")
    silent = parse_config(_bytes({"rootfs": {"type": "layers", "diff_ids": None}}), 0)
    assert (silent.platform, silent.diff_ids) == (None, ())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rootfs": None}, "rootfs"),
        ({"rootfs": {"type": "other", "diff_ids": [_DIGEST, _OTHER]}}, "rootfs"),
        ({"rootfs": {"type": "layers", "diff_ids": [_DIGEST]}}, "2 layers and its config 1"),
        ({"rootfs": {"type": "layers", "diff_ids": [_DIGEST, "x"]}}, "no digest"),
        ({"rootfs": {"type": "layers", "diff_ids": "xy"}}, "no digest"),
        ({"os": 1}, "platform"),
    ],
)
def test_configs_that_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadDocument, match=why):
        parse_config(_bytes(_config(**changes)), 2)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (_manifest(), types.OCI_MANIFEST),
        (_index(mediaType=types.DOCKER_INDEX), types.DOCKER_INDEX),
        ({"schemaVersion": 2, "config": {}}, types.OCI_MANIFEST),
        ({"schemaVersion": 2, "manifests": []}, types.OCI_INDEX),
        ({"schemaVersion": 1, "config": {}}, ""),
        ({"schemaVersion": 2, "mediaType": "text/plain", "config": {}}, ""),
        ({}, ""),
    ],
)
def test_documents_that_come_without_a_type(document: object, expected: str) -> None:
    assert media_type_in(_bytes(document)) == expected


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "rootfs", "os", "architecture"])


@given(st.dictionaries(_KEYS, _JSON), st.integers(0, 3))
def test_no_document_is_too_strange(changes: dict[str, Any], count: int) -> None:
    for base in (_manifest(), _index(), _config()):
        content = _bytes({**base, **changes})
        for parse in (
            lambda c: parse_manifest(c, types.OCI_MANIFEST),
            lambda c: parse_index(c, types.OCI_INDEX),
            lambda c: parse_config(c, count),
            media_type_in,
        ):
            with contextlib.suppress(BadDocument):
                parse(content)


@given(_JSON)
def test_no_descriptor_is_too_strange(value: Any) -> None:
    for key in ("mediaType", "digest", "size", "annotations", "platform"):
        document = _manifest(layers=[{**_blob(types.OCI_LAYER), key: value}])
        with contextlib.suppress(BadDocument):
            parse_manifest(_bytes(document), types.OCI_MANIFEST)
