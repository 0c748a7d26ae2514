"""The part of a blob that an answer holds, checked before a byte of it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_LENGTH = re.compile(r"\d{1,19}")


class WrongPart(ValueError):
    """An answer that announces other bytes than those that were asked for; the text says which."""


def range_header(offset: int) -> Mapping[str, str]:
    """Return the headers that ask for a blob from `offset` on."""
    return {"Range": f"bytes={offset}-"} if offset else {}


def bytes_to_skip(status: int, content_range: str, content_length: str, offset: int, size: int) -> int:
    """Return how many bytes of the answer come before `offset`, of a blob of `size`; raise WrongPart if it is wrong."""
    start = 0
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(content_range.strip())
        if match is None:
            raise WrongPart("it sends a part of the blob and does not say which")
        start = int(match[1])
        if start != offset or int(match[2]) + 1 != size or match[3] not in ("*", str(size)):
            raise WrongPart(f"it was asked for bytes {offset} to {size - 1} and sends {match[0]}")
    elif status != 200:
        raise WrongPart(f"it answers a request for content with status {status}")
    if _LENGTH.fullmatch(content_length) and int(content_length) != size - start:
        raise WrongPart(f"it sends {content_length} bytes where the manifest promises {size - start}")
    return offset - start
