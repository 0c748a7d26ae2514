"""Docker's answers that are no success, as errors of ours; Docker's whole text stays in the message."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cri_dockerd_py.errors import (
    AlreadyExists,
    CriError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unimplemented,
    Unknown,
)

# 301: a name with `..` in it, which Docker would rather see as a path.
_BY_STATUS: Mapping[int, type[CriError]] = {
    301: NotFound,
    400: InvalidArgument,
    401: PermissionDenied,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    409: FailedPrecondition,
    500: Unknown,
    501: Unimplemented,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
_NAME_IN_USE = "is already in use by container"
# What the loser of two removals of one image is told.
_IMAGE_GONE = "unrecognized image ID"
_SHOWN_LIMIT = 4096


def error_for(call: str, status: int, body: bytes) -> CriError:
    """Return the error that stands for an answer of `status` to `call`."""
    text = message_in(body)
    kind = _BY_STATUS.get(status)
    if kind is None:
        return Unavailable(f"Docker answered {call} with HTTP status {status}, which it never does: {text}")
    if status == 409 and _NAME_IN_USE in text:
        kind = AlreadyExists
    if status == 500 and text.startswith(_IMAGE_GONE):
        kind = NotFound
    return kind(text or f"Docker answered {call} with HTTP status {status} and no reason")


def message_in(body: bytes) -> str:
    """Return the text of an error body, which should be JSON with a `message`."""
    text = body.decode("utf-8", "replace").strip()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text[:_SHOWN_LIMIT]
    message = document.get("message") if isinstance(document, dict) else None
    return message.strip() if isinstance(message, str) else text[:_SHOWN_LIMIT]


def is_version_refusal(error: CriError) -> bool:
    """Whether the daemon is another one than the version was negotiated with."""
    text = str(error)
    return isinstance(error, InvalidArgument) and "client version" in text and ("too new" in text or "too old" in text)
