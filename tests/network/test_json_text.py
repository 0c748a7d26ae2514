from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.network.json_text import MAX_BYTES, JsonError, dump, flag, load_object, mapping, objects, string

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_what_is_dumped_is_loaded_again(value: dict[str, object]) -> None:
    try:
        text = dump(value)
    except UnicodeEncodeError:
        return
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    assert load_object(text, "it") == value


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_the_error(text: bytes) -> None:
    with contextlib.suppress(JsonError):
        assert isinstance(load_object(text, "it"), dict)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b" " * (MAX_BYTES + 1), "more than"),
        (b'{"a":' + b"[" * 200_000, "nested too deeply"),
        (b"[]", "not a JSON object"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
    ],
)
def test_refusals_say_why(text: bytes, reason: str) -> None:
    with pytest.raises(JsonError, match=f"^the thing .*{reason}"):
        load_object(text, "the thing")


def test_fields_are_checked_in_kind() -> None:
    fields = {"s": "x", "n": 1, "l": [{}], "m": {"a": 1}, "b": True, "w": "True", "null": None}
    assert string(fields, "s", "it") == "x"
    assert string(fields, "null", "it") == ""
    assert objects(fields, "l", "it") == [{}]
    assert objects(fields, "missing", "it") == []
    assert mapping(fields, "m", "it") == {"a": 1}
    assert flag(fields, "b", "it")
    assert flag(fields, "w", "it")
    assert not flag(fields, "missing", "it")
    for read in (string, objects, mapping, flag):
        with pytest.raises(JsonError, match="n of it"):
            read(fields, "n", "it")
