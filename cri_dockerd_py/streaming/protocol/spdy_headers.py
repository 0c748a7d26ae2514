"""SPDY header blocks: name/value pairs in a zlib stream that lasts for the whole connection, one per direction."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

from cri_dockerd_py.streaming.protocol.spdy_dictionary import DICTIONARY
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation

MAX_BLOCK_BYTES = 64 * 1024
MAX_PAIRS = 100
MAX_VALUE_BYTES = 8 * 1024

_LENGTH = struct.Struct("!I")


class HeaderEncoder:
    """Compresses the blocks of one direction, in the order in which they go out."""

    def __init__(self, level: int = 9) -> None:
        # The least memory level: blocks are tiny, and a session keeps this state for its whole life.
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 1, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """Return the next block of the direction."""
        plain = [_LENGTH.pack(len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                plain += (_LENGTH.pack(len(text)), text)
        return self._deflate.compress(b"".join(plain)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecoder:
    """Inflates the blocks of one direction; every one has to pass through it, also those of refused streams."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def decode(self, block: bytes) -> dict[str, str]:
        """Return the headers with lower-case names; of repeated names and joined values the first counts."""
        try:
            plain = self._inflate.decompress(block, MAX_BLOCK_BYTES)
        except zlib.error as cause:
            raise ProtocolViolation(f"a header block cannot be inflated: {cause}") from cause
        if self._inflate.unconsumed_tail:
            raise ProtocolViolation(f"a header block inflates to more than {MAX_BLOCK_BYTES} bytes")
        headers: dict[str, str] = {}
        for name, value in _pairs(plain):
            headers.setdefault(name.lower(), value.partition("\0")[0])
        return headers


def _pairs(plain: bytes) -> Iterator[tuple[str, str]]:
    count, position = _take_length(plain, 0)
    if count > MAX_PAIRS:
        raise ProtocolViolation(f"a header block has {count} pairs")
    for _ in range(count):
        name, position = _take_text(plain, position)
        value, position = _take_text(plain, position)
        yield name, value


def _take_text(plain: bytes, position: int) -> tuple[str, int]:
    length, position = _take_length(plain, position)
    if length > MAX_VALUE_BYTES or position + length > len(plain):
        raise ProtocolViolation(f"a header name or value of {length} bytes is too long for its block")
    return plain[position : position + length].decode("latin-1"), position + length


def _take_length(plain: bytes, position: int) -> tuple[int, int]:
    if position + _LENGTH.size > len(plain):
        raise ProtocolViolation("a header block ends too early")
    return _LENGTH.unpack_from(plain, position)[0], position + _LENGTH.size
