"""Values of any type, as containerd writes them: bare type names, and JSON for what is no protobuf message.

Protobuf's own `Any.Pack` puts `type.googleapis.com/` before the name, which containerd does not find.
"""

from __future__ import annotations

import json
from typing import Any as Document
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

from cri_dockerd_py.errors import Unknown

_M = TypeVar("_M", bound=Message)
_PREFIX = "type.googleapis.com/"


def json_any(type_url: str, document: object) -> Any:
    """Return a JSON document under its registered name, such as the runtime specification's."""
    return Any(type_url=type_url, value=json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())


def proto_any(message: Message, type_url: str = "") -> Any:
    """Return a message under its own full name, or under `type_url`."""
    return Any(type_url=type_url or message.DESCRIPTOR.full_name, value=message.SerializeToString())


def read_json(value: Any) -> Document:
    """Return the document, or raise Unknown for what is no JSON."""
    try:
        return json.loads(value.value)
    except (ValueError, RecursionError) as error:
        raise Unknown(f"containerd holds a {type_name(value)} that is no JSON ({error})") from error


def read_message(value: Any, kind: type[_M]) -> _M:
    """Return the message, or raise Unknown when the value is none of that kind."""
    if type_name(value) != kind.DESCRIPTOR.full_name:
        raise Unknown(f"containerd holds a {type_name(value)} where a {kind.DESCRIPTOR.full_name} was expected")
    try:
        return kind.FromString(value.value)
    except DecodeError as error:
        raise Unknown(f"containerd holds a damaged {type_name(value)}: {error}") from error


def type_name(value: Any) -> str:
    """Return the bare name of the value's type."""
    return value.type_url.removeprefix(_PREFIX)
