"""Docker's log frames as dockerd writes them, made by hand from the protocol's description."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

START_NS = 1_790_000_000_000_000_000
Piece = Literal["whole", "first", "last"]


@dataclass(frozen=True, slots=True)
class Message:
    """What a container printed: `piece` says whether it is a whole line or a piece of a split one."""

    content: bytes
    stream: str = "stdout"
    piece: Piece = "whole"
    time_ns: int = START_NS


def varint(number: int) -> bytes:
    """A protobuf varint."""
    if number < 0x80:
        return bytes([number])
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def _bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(message: Message) -> bytes:
    """One frame."""
    body = _bytes_field(1, message.stream.encode()) + b"\x10" + varint(message.time_ns)
    if message.content:
        body += _bytes_field(3, message.content)
    if message.piece != "whole":
        last = b"\x08\x01" if message.piece == "last" else b""
        body += b"\x20\x01" + _bytes_field(5, last + _bytes_field(2, b"0123456789abcdef") + b"\x18\x07")
    return struct.pack(">I", len(body)) + body


def expected(message: Message) -> tuple[str, str, bytes]:
    """Stream, tag and content of the CRI line for a message."""
    if message.piece == "first":
        return message.stream, "P", message.content
    return message.stream, "F", message.content.removesuffix(b"\r")


def numbered(first: int, count: int, padding: bytes = b"x" * 80) -> bytes:
    """Frames of numbered lines."""
    return b"".join(
        frame(Message(b"%08d %b" % (n, padding), time_ns=START_NS + n * 10_000)) for n in range(first, first + count)
    )
