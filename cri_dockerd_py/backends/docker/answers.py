"""Bodies of Docker's answers: whole, or as JSON objects one after the other."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from cri_dockerd_py.errors import Unavailable

#: What a connection that breaks raises.
LOST = (aiohttp.ClientError, OSError, EOFError)
_BODY_LIMIT_BYTES = 256 << 20
_LINE_LIMIT_BYTES = 1 << 20


async def read_body(response: aiohttp.ClientResponse, call: str) -> bytes:
    """Return the whole body."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _BODY_LIMIT_BYTES:
            raise Unavailable(f"Docker's answer to {call} is longer than {_BODY_LIMIT_BYTES} bytes")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_start(response: aiohttp.ClientResponse, call: str, limit_bytes: int) -> bytes:
    """Return the body, or its first `limit_bytes` when it has more."""
    body = bytearray()
    while len(body) < limit_bytes and (chunk := await _chunk(response, call)):
        body += chunk
    return bytes(body[:limit_bytes])


async def _chunk(response: aiohttp.ClientResponse, call: str) -> bytes:
    try:
        return await response.content.readany()
    except LOST as error:
        raise Unavailable(f"Docker has broken off its answer to {call}: {error or type(error).__name__}") from error


async def read_objects(response: aiohttp.ClientResponse, call: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects, which may be separated by line ends or by nothing."""
    decoder = json.JSONDecoder()
    to_text = codecs.getincrementaldecoder("utf-8")("replace")
    pending = ""
    while chunk := await _chunk(response, call):
        pending += to_text.decode(chunk)
        while text := pending.lstrip():
            try:
                document, end = decoder.raw_decode(text)
            except (ValueError, RecursionError):
                if len(text) > _LINE_LIMIT_BYTES:
                    raise Unavailable(f"Docker's stream for {call} is no JSON: {text[:200]!r}") from None
                break
            pending = text[end:]
            if isinstance(document, dict):
                yield document
        else:
            pending = ""
