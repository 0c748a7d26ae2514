"""SPDY/3.1 frames: bytes to frame values and back. Header blocks stay compressed here."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation

FLAG_FIN = 0x01
FLAG_UNIDIRECTIONAL = 0x02

#: Largest control frame that is accepted; Kubernetes' own have less than 200 bytes.
MAX_CONTROL_BYTES = 64 * 1024
MAX_DATA_BYTES = (1 << 24) - 1

#: Status codes of RST_STREAM.
RST_PROTOCOL_ERROR = 1
RST_REFUSED_STREAM = 3
RST_CANCEL = 5

#: Status codes of GOAWAY.
GOAWAY_OK = 0
GOAWAY_PROTOCOL_ERROR = 1

_CONTROL_BIT = 0x80000000
_VERSION_WORD = 0x8003
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _HEADERS, _WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
_STREAM_ID_MASK = 0x7FFFFFFF
_HEAD = struct.Struct("!II")
_CONTROL_HEAD = struct.Struct("!HHI")
_SYN_STREAM_BODY = struct.Struct("!IIBB")
_WORD = struct.Struct("!I")
_TWO_WORDS = struct.Struct("!II")


@dataclass(frozen=True, slots=True)
class SynStream:
    """A new stream; its header block has to be inflated even when the stream is refused."""

    stream_id: int
    block: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    """The stream's acceptance by the other side."""

    stream_id: int
    block: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class HeadersFrame:
    """Further headers of a stream."""

    stream_id: int
    block: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class RstStream:
    """The abrupt end of a stream."""

    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Ping:
    """A question whether the peer is alive, or the answer to one."""

    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The last word of a side."""

    last_stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A frame that means nothing here: SETTINGS or WINDOW_UPDATE."""

    kind: int


@dataclass(frozen=True, slots=True)
class DataPiece:
    """Bytes of a stream, a whole DATA frame or a part of one; `fin` only on the last part."""

    stream_id: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | HeadersFrame | RstStream | Ping | GoAway | Ignored | DataPiece


class FrameReader:
    """Takes bytes in pieces of any size; control frames come out whole, DATA as it arrives."""

    def __init__(self) -> None:
        self._pending = b""
        self._data_stream = 0
        self._data_left = 0
        self._data_fin = False

    def feed(self, received: bytes, frames: list[Frame]) -> None:
        """Append to `frames` what `received` completes; raises ProtocolViolation at the first senseless byte."""
        received = self._pending + received if self._pending else received
        self._pending = b""
        position, end = 0, len(received)
        while position < end:
            if self._data_left:
                position = self._take_data(received, position, frames)
                continue
            if end - position < _HEAD.size:
                break
            first, second = _HEAD.unpack_from(received, position)
            flags, length = second >> 24, second & MAX_DATA_BYTES
            if not first & _CONTROL_BIT:
                position += _HEAD.size
                self._begin_data(first, flags, length, frames)
                continue
            if length > MAX_CONTROL_BYTES:
                raise ProtocolViolation(f"a control frame of type {first & 0xFFFF} has {length} bytes")
            body = position + _HEAD.size
            if end - body < length:
                break
            frames.append(_decode_control(first & 0xFFFF, flags, received[body : body + length]))
            position = body + length
        self._pending = received[position:]

    def _begin_data(self, stream_id: int, flags: int, length: int, frames: list[Frame]) -> None:
        self._data_stream, self._data_left, self._data_fin = stream_id, length, bool(flags & FLAG_FIN)
        if not length and self._data_fin:
            frames.append(DataPiece(stream_id, b"", fin=True))

    def _take_data(self, received: bytes, position: int, frames: list[Frame]) -> int:
        piece = received[position : position + self._data_left]
        self._data_left -= len(piece)
        frames.append(DataPiece(self._data_stream, piece, fin=self._data_fin and not self._data_left))
        return position + len(piece)


def _decode_control(kind: int, flags: int, body: bytes) -> Frame:
    if kind == _SYN_STREAM:
        _require(len(body) >= _SYN_STREAM_BODY.size, "SYN_STREAM", body)
        return SynStream(_stream_id(body), body[_SYN_STREAM_BODY.size :], flags)
    if kind in (_SYN_REPLY, _HEADERS):
        _require(len(body) >= _WORD.size, "SYN_REPLY or HEADERS", body)
        frame = SynReply if kind == _SYN_REPLY else HeadersFrame
        return frame(_stream_id(body), body[_WORD.size :], flags)
    if kind == _RST_STREAM:
        _require(len(body) == _TWO_WORDS.size, "RST_STREAM", body)
        return RstStream(*_id_and_word(body))
    if kind == _PING:
        _require(len(body) == _WORD.size, "PING", body)
        return Ping(_WORD.unpack(body)[0])
    if kind == _GOAWAY:
        _require(len(body) == _TWO_WORDS.size, "GOAWAY", body)
        return GoAway(*_id_and_word(body))
    if kind in (_SETTINGS, _WINDOW_UPDATE):
        return Ignored(kind)
    raise ProtocolViolation(f"control frame of unknown type {kind}")


def _require(holds: bool, name: str, body: bytes) -> None:
    if not holds:
        raise ProtocolViolation(f"{name} has a payload of {len(body)} bytes")


def _stream_id(body: bytes) -> int:
    return int(_WORD.unpack_from(body)[0]) & _STREAM_ID_MASK


def _id_and_word(body: bytes) -> tuple[int, int]:
    first, second = _TWO_WORDS.unpack(body)
    return first & _STREAM_ID_MASK, second


def encode_data(stream_id: int, data: bytes, *, fin: bool = False) -> bytes:
    """Return one DATA frame; `data` must fit one."""
    flags = FLAG_FIN if fin else 0
    return _HEAD.pack(stream_id, flags << 24 | len(data)) + data


def encode_syn_stream(stream_id: int, block: bytes, flags: int = 0) -> bytes:
    """Return a SYN_STREAM frame around a compressed header block."""
    return _control(_SYN_STREAM, flags, _SYN_STREAM_BODY.pack(stream_id, 0, 0, 0) + block)


def encode_syn_reply(stream_id: int, block: bytes) -> bytes:
    """Return a SYN_REPLY frame around a compressed header block."""
    return _control(_SYN_REPLY, 0, _WORD.pack(stream_id) + block)


def encode_rst_stream(stream_id: int, status: int) -> bytes:
    """Return an RST_STREAM frame."""
    return _control(_RST_STREAM, 0, _TWO_WORDS.pack(stream_id, status))


def encode_ping(ping_id: int) -> bytes:
    """Return a PING frame."""
    return _control(_PING, 0, _WORD.pack(ping_id))


def encode_go_away(last_stream_id: int, status: int) -> bytes:
    """Return a GOAWAY frame."""
    return _control(_GOAWAY, 0, _TWO_WORDS.pack(last_stream_id, status))


def _control(kind: int, flags: int, body: bytes) -> bytes:
    return _CONTROL_HEAD.pack(_VERSION_WORD, kind, flags << 24 | len(body)) + body
