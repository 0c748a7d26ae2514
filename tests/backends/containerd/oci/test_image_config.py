"""Image configurations, good and hostile, and chain ids."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.backends.containerd.oci.image_config import LIMIT_BYTES, ImageConfig, parse_image_config
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.layers import chain_ids

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def parsed(**fields: Any) -> ImageConfig:
    """Return what a configuration document says."""
    return parse_image_config(json.dumps(fields).encode())


def test_everything_is_read() -> None:
    config = parsed(
        os="linux",
        architecture="arm",
        variant="v7",
        rootfs={"type": "layers", "diff_ids": [ONE, TWO]},
        config={
            "Env": ["A=b", "EMPTY="],
            "Entrypoint": ["/run"],
            "Cmd": ["x", "ü"],
            "WorkingDir": "/srv",
            "User": "web:www",
            "Volumes": {"/data": {}, "/b": {}},
            "Labels": {"k": "v"},
            "StopSignal": "SIGUSR1",
            "Unknown": [1],
        },
        history=[{"created_by": "x"}],
    )
    assert config == ImageConfig(
        (ONE, TWO), ("A=b", "EMPTY="), ("/run",), ("x", "ü"), "/srv", "web:www", ("/b", "/data"), {"k": "v"},
        "SIGUSR1", "linux", "arm", "v7",
    )  # fmt: skip


@pytest.mark.parametrize("document", [{}, {"config": None}, {"config": {"Cmd": None, "Labels": None}, "rootfs": None}])
def test_what_is_left_out_is_empty(document: dict[str, Any]) -> None:
    assert parse_image_config(json.dumps(document).encode()) == ImageConfig()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null7",
        b'"text"',
        b'{"config": []}',
        b'{"config": {"Env": "A=b"}}',
        b'{"config": {"Env": [1]}}',
        b'{"config": {"Cmd": ["a\\u0000b"]}}',
        b'{"config": {"User": {"a": 1}}}',
        b'{"config": {"User": "\\ud800"}}',
        b'{"config": {"Volumes": ["/data"]}}',
        b'{"config": {"Labels": {"a": 1}}}',
        b'{"rootfs": {"diff_ids": ["sha256:abc"]}}',
        b'{"rootfs": {"diff_ids": ["../../x"]}}',
        b'{"rootfs": {"diff_ids": "x"}}',
        b'{"os": 1}',
        b"[" * 200_000,
        b'{"config": {"User": ' + b"9" * 10_000 + b"}}",
        b" " * (LIMIT_BYTES + 1),
        json.dumps({"rootfs": {"diff_ids": [ONE] * 1001}}).encode(),
    ],
)
def test_hostile_content_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument, match="image configuration"):
        parse_image_config(content)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
_keys = st.sampled_from(["Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Volumes", "Labels", "StopSignal"])


@given(st.fixed_dictionaries({"config": st.dictionaries(_keys, _json, max_size=4) | _json, "rootfs": _json}))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        config = parse_image_config(json.dumps(document).encode())
    except InvalidArgument:
        return
    "".join([*config.env, *config.cmd, *config.entrypoint, *config.labels, config.user]).encode()


def test_chain_ids() -> None:
    second = "sha256:" + hashlib.sha256(f"{ONE} {TWO}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {ONE}".encode()).hexdigest()
    assert chain_ids([ONE, TWO, ONE]) == [ONE, second, third]
    assert chain_ids([]) == []
