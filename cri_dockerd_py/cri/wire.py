"""The few rules of protobuf's wire format that let ready-made messages be put together without decoding them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_SMALL = [bytes([number]) for number in range(128)]
_CHUNK_LIMIT = 1 << 20


def varint(number: int) -> bytes:
    """Return a non-negative number as a varint."""
    if number < 128:
        return _SMALL[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def sub_message(number: int, payload: bytes) -> bytes:
    """Return an encoded message as field `number` (1 to 15) of another; a repeated field's items just follow on."""
    return b"".join((_SMALL[number << 3 | 2], varint(len(payload)), payload))


def int64_field(number: int, value: int) -> bytes:
    """Return a non-negative number as field `number` (1 to 15)."""
    return _SMALL[number << 3] + varint(value)


def chunks(items: Iterable[bytes]) -> Iterator[bytes]:
    """Join encoded fields to messages of about 1 MiB, at least one field in each; none for no field."""
    waiting: list[bytes] = []
    size = 0
    for item in items:
        if waiting and size + len(item) > _CHUNK_LIMIT:
            yield b"".join(waiting)
            waiting, size = [], 0
        waiting.append(item)
        size += len(item)
    if waiting:
        yield b"".join(waiting)
