"""WebSocket framing (RFC 6455), both roles: bytes to events and back. Messages come out in pieces as they arrive."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation, Violated

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: What a client may send as one message; other servers of this protocol accept as much.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
MAX_CONTROL_BYTES = 125

CLOSE_NORMAL = 1000
CLOSE_PROTOCOL_ERROR = 1002
CLOSE_UNSUPPORTED = 1003
CLOSE_TOO_BIG = 1009

_FIN_BIT = 0x80
_RESERVED_BITS = 0x70
_MASK_BIT = 0x80
_SHORT = struct.Struct("!H")
_LONG = struct.Struct("!Q")
_LONGEST_HEAD = 14

#: Integers of this size are the fastest to XOR.
_XOR_BYTES = 2048


@dataclass(frozen=True, slots=True)
class MessagePiece:
    """Bytes of a message; the message is over when `ends` is set. An empty message is one empty last piece."""

    text: bool
    data: bytes
    ends: bool


@dataclass(frozen=True, slots=True)
class PingReceived:
    """To be answered with a pong of the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The peer is alive."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer sends nothing more; 1005 stands for a close without a code."""

    code: int


Event = MessagePiece | PingReceived | PongReceived | CloseReceived | Violated


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first bytes of a frame say."""

    opcode: int
    fin: bool
    length: int
    mask: bytes
    size: int


class WebSocketReader:
    """Takes bytes in pieces of any size; `masked` says whether the peer is a client, whose frames have a mask."""

    def __init__(self, *, masked: bool = True, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._masked = masked
        self._max_message_bytes = max_message_bytes
        self._pending = b""
        self._frame: _Head | None = None
        self._frame_taken = 0
        self._message_opcode: int | None = None
        self._message_bytes = 0
        self._over = False

    def receive(self, received: bytes) -> list[Event]:
        """Return what the bytes mean; a close or a violation is the last event ever."""
        events: list[Event] = []
        received = self._pending + received if self._pending else received
        position = 0
        try:
            while not self._over:
                taken = self._take(received, position, events)
                if taken is None:
                    break
                position = taken
        except ProtocolViolation as cause:
            self._over = True
            events.append(Violated(str(cause), cause.close_code))
        self._pending = b"" if self._over else received[position:]
        return events

    def _take(self, received: bytes, position: int, events: list[Event]) -> int | None:
        """Take a head, a control frame, or what is there of a message; None when more bytes are needed."""
        if self._frame is None:
            head = self._read_head(received, position)
            if head is None:
                return None
            if head.opcode >= CLOSE:
                return self._take_control(head, received, position, events)
            self._begin(head)
            self._frame, self._frame_taken = head, 0
            position += head.size
        elif position == len(received):
            return None
        return self._take_message(self._frame, received, position, events)

    def _read_head(self, received: bytes, position: int) -> _Head | None:
        raw = received[position : position + _LONGEST_HEAD]
        if len(raw) < 2:
            return None
        first, second = raw[0], raw[1]
        if first & _RESERVED_BITS:
            raise ProtocolViolation("a frame has reserved bits set")
        if bool(second & _MASK_BIT) is not self._masked:
            raise ProtocolViolation("a client's frame has no mask" if self._masked else "a server's frame has a mask")
        length, size = second & ~_MASK_BIT, 2
        if length >= 126:
            long_form = _SHORT if length == 126 else _LONG
            if len(raw) < size + long_form.size:
                return None
            length = long_form.unpack_from(raw, size)[0]
            size += long_form.size
        mask = b""
        if self._masked:
            mask = raw[size : size + 4]
            size += 4
        if len(raw) < size:
            return None
        return _Head(first & 0x0F, bool(first & _FIN_BIT), length, mask, size)

    def _begin(self, head: _Head) -> None:
        if head.opcode == CONTINUATION:
            if self._message_opcode is None:
                raise ProtocolViolation("a continuation without a message")
        elif head.opcode not in (TEXT, BINARY):
            raise ProtocolViolation(f"a frame of unknown kind {head.opcode}")
        elif self._message_opcode is not None:
            raise ProtocolViolation("a new message inside a fragmented one")
        else:
            self._message_opcode, self._message_bytes = head.opcode, 0
        self._message_bytes += head.length
        if self._message_bytes > self._max_message_bytes:
            raise ProtocolViolation(f"a message has more than {self._max_message_bytes} bytes", CLOSE_TOO_BIG)

    def _take_message(self, head: _Head, received: bytes, position: int, events: list[Event]) -> int:
        piece = received[position : position + head.length - self._frame_taken]
        position += len(piece)
        data = apply_mask(piece, head.mask, self._frame_taken) if head.mask else piece
        self._frame_taken += len(piece)
        frame_ends = self._frame_taken == head.length
        message_ends = frame_ends and head.fin
        if data or message_ends:
            events.append(MessagePiece(self._message_opcode == TEXT, data, message_ends))
        if frame_ends:
            self._frame = None
        if message_ends:
            self._message_opcode = None
        return position

    def _take_control(self, head: _Head, received: bytes, position: int, events: list[Event]) -> int | None:
        if head.opcode > PONG:
            raise ProtocolViolation(f"a frame of unknown kind {head.opcode}")
        if not head.fin or head.length > MAX_CONTROL_BYTES:
            raise ProtocolViolation("a control frame is fragmented or too long")
        start = position + head.size
        payload = received[start : start + head.length]
        if len(payload) < head.length:
            return None
        payload = apply_mask(payload, head.mask, 0) if head.mask else payload
        if head.opcode == PING:
            events.append(PingReceived(payload))
        elif head.opcode == PONG:
            events.append(PongReceived(payload))
        else:
            self._over = True
            events.append(CloseReceived(_close_code(payload)))
        return start + head.length


def _close_code(payload: bytes) -> int:
    if not payload:
        return 1005
    if len(payload) == 1:
        raise ProtocolViolation("a close frame has a payload of one byte")
    return int(_SHORT.unpack_from(payload)[0])


def apply_mask(data: bytes, mask: bytes, offset: int) -> bytes:
    """XOR `data`, which begins `offset` bytes into its frame, with the frame's mask."""
    turn = offset % 4
    key = int.from_bytes((mask[turn:] + mask[:turn]) * (_XOR_BYTES // 4), "little")
    whole = len(data) - len(data) % _XOR_BYTES
    pieces = [
        (int.from_bytes(data[at : at + _XOR_BYTES], "little") ^ key).to_bytes(_XOR_BYTES, "little")
        for at in range(0, whole, _XOR_BYTES)
    ]
    rest = data[whole:]
    if rest:
        rest_key = key & ((1 << 8 * len(rest)) - 1)
        pieces.append((int.from_bytes(rest, "little") ^ rest_key).to_bytes(len(rest), "little"))
    return b"".join(pieces)


def encode_frame(opcode: int, payload: bytes, *, fin: bool = True, mask: bytes = b"") -> bytes:
    """Return one frame; a client gives a mask of four bytes."""
    length, mask_bit = len(payload), _MASK_BIT if mask else 0
    first = opcode | (_FIN_BIT if fin else 0)
    if length < 126:
        head = bytes((first, mask_bit | length))
    elif length < 1 << 16:
        head = bytes((first, mask_bit | 126)) + _SHORT.pack(length)
    else:
        head = bytes((first, mask_bit | 127)) + _LONG.pack(length)
    return head + mask + (apply_mask(payload, mask, 0) if mask else payload)


def encode_close(code: int, *, mask: bytes = b"") -> bytes:
    """Return a close frame."""
    return encode_frame(CLOSE, _SHORT.pack(code), mask=mask)
