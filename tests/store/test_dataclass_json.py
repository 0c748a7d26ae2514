"""What is written is read back; what does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.model.container import ContainerSpec, ContainerUser
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxSpec
from cri_dockerd_py.store import dataclass_json
from cri_dockerd_py.store.records import CreateIntent, StoredContainer

# Bytes that are not UTF-8 are surrogate-escaped.
BYTES = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | BYTES, max_size=8)
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=3)
# The annotations of the model are texts, which Hypothesis resolves; only its idea of a Mapping is too wide.
st.register_type_strategy(Mapping, MAPS)


class Colour(Enum):
    """An enum of texts."""

    RED = "red"


class Size(IntEnum):
    """An enum of numbers."""

    SMALL = 0
    LARGE = 1


@dataclass(frozen=True, slots=True)
class Inner:
    """A nested value."""

    name: str


@dataclass(frozen=True, slots=True)
class Outer:
    """One field of every form."""

    count: int
    on: bool = False
    ratio: float = 0.0
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    maybe: int | None = None
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    pairs: tuple[tuple[str, int], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@given(st.from_type(SandboxSpec))
def test_sandboxes_come_back(spec: SandboxSpec) -> None:
    assert dataclass_json.loads(SandboxSpec, dataclass_json.dumps(spec)) == spec


@given(TEXTS, st.from_type(ContainerSpec))
def test_intents_come_back(sandbox_id: str, spec: ContainerSpec) -> None:
    intent = CreateIntent(sandbox_id, spec)
    assert dataclass_json.loads(CreateIntent, dataclass_json.dumps(intent)) == intent


@given(st.from_type(ContainerSpec), st.from_type(Resources), st.none() | st.from_type(ContainerUser), TEXTS)
def test_containers_come_back(spec: ContainerSpec, limits: Resources, user: ContainerUser | None, text: str) -> None:
    stored = StoredContainer("c", "s", "docker", spec, limits, text, text, text, user=user)
    assert dataclass_json.loads(StoredContainer, dataclass_json.dumps(stored)) == stored


def test_the_form_is_plain_json() -> None:
    value = Outer(1, True, 0.5, Colour.RED, Size.LARGE, None, Inner("é"), (Inner("a"),), (("b", 2),), {"k": "v"})
    assert json.loads(dataclass_json.dumps(value)) == {
        "count": 1,
        "on": True,
        "ratio": 0.5,
        "colour": "red",
        "size": 1,
        "maybe": None,
        "inner": {"name": "é"},
        "inners": [{"name": "a"}],
        "pairs": [["b", 2]],
        "labels": {"k": "v"},
    }


def test_what_an_older_version_did_not_write_has_its_default_and_what_a_newer_one_added_is_ignored() -> None:
    assert dataclass_json.loads(Outer, '{"count": 3, "later": [1]}') == Outer(3)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"count": "1"},
        {"count": True},
        {"count": None},
        {"count": 1, "on": 1},
        {"count": 1, "colour": "blue"},
        {"count": 1, "size": 2},
        {"count": 1, "size": True},
        {"count": 1, "size": []},
        {"count": 1, "maybe": "x"},
        {"count": 1, "inner": {}},
        {"count": 1, "inner": "x"},
        {"count": 1, "inners": {}},
        {"count": 1, "inners": [1]},
        {"count": 1, "pairs": [["a"]]},
        {"count": 1, "pairs": [["a", "b"]]},
        {"count": 1, "labels": []},
        {"count": 1, "labels": {"a": 1}},
        [],
        None,
    ],
)
def test_what_does_not_fit_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected a "):
        dataclass_json.loads(Outer, json.dumps(wrong))


@pytest.mark.parametrize("text", ["", "{", "nonsense"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        dataclass_json.loads(Outer, text)


def test_what_json_cannot_hold_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        dataclass_json.dumps({"when": object()})
