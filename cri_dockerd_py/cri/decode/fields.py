"""Rules of single fields: each returns the value in model form or says which field is wrong, how, and what is right."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NoReturn, TypeVar

from cri_dockerd_py.errors import InvalidArgument

#: Labels and annotations of one object; the API server allows 256 KiB, and kubelet adds its own on top.
MAP_LIMIT_BYTES = (256 + 64) * 1024
PATH_LIMIT = 4096
NAME_LIMIT = 253
_SHOWN_CHARACTERS = 80

_NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_SPACE = re.compile(r"\s")

T = TypeVar("T")
EnumT = TypeVar("EnumT", bound=IntEnum)


def shown(value: object) -> str:
    """Return a value as it may stand in a message: printable ASCII, and not too long."""
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return f"{value[:_SHOWN_CHARACTERS]!a}… ({len(value)} characters)"
    return ascii(value)


def refuse(field: str, value: object, rule: str) -> NoReturn:
    """Raise InvalidArgument that names the field, shows the value and states the rule."""
    raise InvalidArgument(f"{field}: {shown(value)} is not allowed: {rule}")


def missing(field: str, rule: str) -> NoReturn:
    """Raise InvalidArgument for a required field that is not set."""
    raise InvalidArgument(f"{field} is missing: {rule}")


def name(field: str, value: str) -> str:
    """Return a name that can stand in an engine's object name and in a path: letters, digits, `_`, `.` and `-`."""
    if not value:
        missing(field, "it identifies the object and must not be empty")
    if len(value) > NAME_LIMIT or not _NAME.fullmatch(value):
        refuse(field, value, f"use at most {NAME_LIMIT} letters, digits, '_', '.' and '-', and not dots alone")
    return value


def plain(field: str, value: str, *, limit: int = PATH_LIMIT) -> str:
    """Return text without control characters, of at most `limit` characters; it may be empty."""
    if len(value) > limit:
        refuse(field, value, f"use at most {limit} characters")
    if _UNPRINTABLE.search(value):
        refuse(field, value, "control characters are not allowed")
    return value


def word(field: str, value: str, *, limit: int = NAME_LIMIT) -> str:
    """Return non-empty text without white space and control characters."""
    if not value:
        missing(field, "an entry must not be empty")
    if _SPACE.search(plain(field, value, limit=limit)):
        refuse(field, value, "white space is not allowed")
    return value


def without_nul(field: str, value: str) -> str:
    """Return text that the kernel can take as a C string."""
    if "\0" in value:
        refuse(field, value, "a NUL character cannot be passed to a process; remove it")
    return value


def absolute_path(field: str, value: str) -> str:
    """Return an absolute path as it is written; `..` is the caller's own business."""
    without_nul(field, value)
    if not value.startswith("/"):
        refuse(field, value, "give an absolute path")
    if len(value) > PATH_LIMIT:
        refuse(field, value, f"paths have at most {PATH_LIMIT} characters")
    return value


def confined_absolute_path(field: str, value: str) -> str:
    """Return an absolute path in normal form that never steps up."""
    if ".." in absolute_path(field, plain(field, value)).split("/"):
        refuse(field, value, "the path must not contain '..'")
    return "/" + posixpath.normpath(value).lstrip("/")


def confined_relative_path(field: str, value: str) -> str:
    """Return a relative path in normal form that stays below its base; empty stays empty."""
    plain(field, value)
    if not value:
        return ""
    if value.startswith("/") or ".." in value.split("/"):
        refuse(field, value, "give a relative path without '..'")
    normal = posixpath.normpath(value)
    if normal == ".":
        refuse(field, value, "it names no file")
    return normal


def number(field: str, value: int, low: int, high: int) -> int:
    """Return a number within bounds."""
    if not low <= value <= high:
        refuse(field, value, f"give a number from {low} to {high}")
    return value


def member(field: str, value: int, kind: type[EnumT]) -> EnumT:
    """Return an enumeration's member; proto3 lets any number through."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(f"{item.name} ({item.value})" for item in kind)
        refuse(field, value, f"use one of {known}")


def text_map(field: str, value: Mapping[str, str]) -> dict[str, str]:
    """Return labels or annotations unchanged, unless they are too large together."""
    copy = dict(value)
    size_bytes = sum(len(key.encode()) + len(text.encode()) for key, text in copy.items())
    if size_bytes > MAP_LIMIT_BYTES:
        raise InvalidArgument(f"{field}: {size_bytes} bytes in all; at most {MAP_LIMIT_BYTES} are allowed")
    return copy


def few(field: str, values: Iterable[T], count: int) -> tuple[T, ...]:
    """Return a list that is not too long."""
    listed = tuple(values)
    if len(listed) > count:
        raise InvalidArgument(f"{field}: {len(listed)} entries; at most {count} are allowed")
    return listed


def words(field: str, values: Iterable[str], *, count: int, limit: int = NAME_LIMIT) -> tuple[str, ...]:
    """Return a list of words of limited length."""
    listed = enumerate(few(field, values, count))
    return tuple(word(f"{field}[{index}]", value, limit=limit) for index, value in listed)


def ip_address(field: str, value: str) -> str:
    """Return an IPv4 or IPv6 address as it is written."""
    try:
        ipaddress.ip_address(word(field, value))
    except ValueError:
        refuse(field, value, "give an IPv4 or IPv6 address")
    return value


def arguments(field: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return a command line."""
    return tuple(without_nul(f"{field}[{index}]", value) for index, value in enumerate(values))
