"""JSON objects from files and programs that are not trusted: bounded in size, checked in kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 1 << 20


class JsonError(ValueError):
    """The text is not a JSON object of a bearable size."""


def load_object(text: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in `text`; `what` names it in the error."""
    if len(text) > MAX_BYTES:
        raise JsonError(f"{what} has {len(text)} bytes, more than the {MAX_BYTES} allowed")
    try:
        value = json.loads(text)
    except RecursionError:
        raise JsonError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise JsonError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise JsonError(f"{what} is not a JSON object")
    return value


def dump(value: Mapping[str, Any]) -> bytes:
    """Return compact UTF-8 JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def string(fields: Mapping[str, Any], key: str, what: str) -> str:
    """Return a string field, empty when missing or null."""
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise JsonError(f"{key} of {what} is not a string")
    return value


def objects(fields: Mapping[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    """Return a field that is a list of objects, empty when missing or null."""
    value = fields.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise JsonError(f"{key} of {what} is not a list of objects")
    return value


def mapping(fields: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    """Return a field that is an object, empty when missing or null."""
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise JsonError(f"{key} of {what} is not an object")
    return value


def flag(fields: Mapping[str, Any], key: str, what: str) -> bool:
    """Return a boolean field; the words that CNI's own library takes for one are taken too."""
    value = fields.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise JsonError(f"{key} of {what} is not a boolean")
