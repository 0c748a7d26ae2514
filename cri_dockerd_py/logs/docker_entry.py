"""One entry of Docker's log-driver stream: the protobuf message behind each four-byte length, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from cri_dockerd_py.logs.cri_format import Entry

PREFIX_BYTES = 4
MAX_FRAME_BYTES = 1 << 20
_LENGTH = Struct(">I")


@dataclass(frozen=True, slots=True)
class DockerEntry:
    """What a frame says; `partial` also holds for the last piece of a split line in Docker's words, not here."""

    stream: bytes
    time_ns: int
    line: bytes
    partial: bool


def encode_varint(number: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_varint(data: bytes, position: int = 0) -> tuple[int, int]:
    """The number at `position` and the position behind it."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("varint is too long")


def decode_entry(body: bytes) -> DockerEntry | None:
    """Any entry, its fields in any order; None when the bytes are not one."""
    try:
        fields = dict(_fields(body))
        source, time_ns, line = fields.get(1, b"stdout"), fields.get(2, 0), fields.get(3, b"")
        meta = fields.get(5)
        partial = isinstance(meta, bytes) and not dict(_fields(meta)).get(1)
    except (IndexError, ValueError):
        return None
    if not (isinstance(source, bytes) and isinstance(line, bytes) and isinstance(time_ns, int)):
        return None
    return DockerEntry(b"stderr" if source == b"stderr" else b"stdout", time_ns, line, partial)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, numbers and byte strings."""
    position, end = 0, len(message)
    while position < end:
        key, position = decode_varint(message, position)
        kind = key & 7
        if kind == 0:
            number, position = decode_varint(message, position)
            yield key >> 3, number
            continue
        size = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            size, position = decode_varint(message, position)
        if size < 0 or position + size > end:
            raise ValueError(f"field {key >> 3} of kind {kind} does not fit its message")
        yield key >> 3, message[position : position + size]
        position += size


def encode_entry(entry: Entry) -> bytes:
    """A frame for Docker's reader: the line carries its newline unless it goes on in the next entry."""
    line = entry.content if entry.partial else entry.content + b"\n"
    body = b"\n\x06%b\x10%b\x1a%b%b%b" % (
        entry.stream.encode(),
        encode_varint(entry.time_ns),
        encode_varint(len(line)),
        line,
        b"\x20\x01" if entry.partial else b"",
    )
    return _LENGTH.pack(len(body)) + body
