"""Frozen dataclasses as JSON text and back; what is read is checked against the fields' types."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Value = TypeVar("Value")
Reader = Callable[[object], Any]


def dumps(value: object) -> str:
    """Return a dataclass as JSON: fields by name, enums by value, tuples as lists."""
    return json.dumps(value, default=_plain, separators=(",", ":"))


def loads(kind: type[Value], text: str) -> Value:
    """Return the dataclass that `text` holds, or raise ValueError; absent fields get defaults, unknown are ignored."""
    hint: Any = kind
    value: Value = _reader(hint)(json.loads(text))
    return value


def _plain(value: object) -> object:
    """Return what `json` writes in place of a value that it does not know."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"no JSON form for {value!r}")


@cache
def _reader(hint: Any) -> Reader:
    """Return the function that makes a value of the type from parsed JSON."""
    kind, parameters = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        return _optional(*(_reader(member) for member in parameters if member is not types.NoneType))
    if kind is tuple:
        every = _reader(parameters[0]) if parameters[-1] is ... else None
        return _tuple_of(every) if every else _tuple(tuple(_reader(member) for member in parameters))
    if kind is Mapping:
        return _mapping(_reader(parameters[1]))
    if is_dataclass(kind):
        return _dataclass(kind)
    return _enum(kind) if issubclass(kind, Enum) else _scalar(kind)


def _scalar(kind: type) -> Reader:
    # A bool is an int to Python, and none to JSON.
    return lambda raw: raw if type(raw) is kind else _refuse(kind.__name__, raw)


def _enum(kind: type[Enum]) -> Reader:
    members = {(type(member.value), member.value): member for member in kind}

    def read(raw: object) -> object:
        known = isinstance(raw, int | str) and members.get((type(raw), raw))
        return known if isinstance(known, Enum) else _refuse(kind.__name__, raw)

    return read


def _optional(read: Reader) -> Reader:
    return lambda raw: None if raw is None else read(raw)


def _tuple_of(read: Reader) -> Reader:
    return lambda raw: tuple(map(read, raw)) if isinstance(raw, list) else _refuse("list", raw)


def _tuple(readers: tuple[Reader, ...]) -> Reader:
    def read(raw: object) -> object:
        if not isinstance(raw, list) or len(raw) != len(readers):
            return _refuse(f"list of {len(readers)}", raw)
        return tuple(one(item) for one, item in zip(readers, raw, strict=True))

    return read


def _mapping(read: Reader) -> Reader:
    # JSON's keys are always texts.
    return lambda raw: {key: read(item) for key, item in raw.items()} if isinstance(raw, dict) else _refuse("map", raw)


def _dataclass(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}

    def read(raw: object) -> object:
        if not isinstance(raw, dict) or not needed <= raw.keys():
            return _refuse(f"{kind.__name__} with {sorted(needed)}", raw)
        return kind(**{name: one(raw[name]) for name, one in readers.items() if name in raw})

    return read


def _refuse(wanted: str, raw: object) -> object:
    raise ValueError(f"expected a {wanted}, not {raw!r:.100}")
