"""Channels inside WebSocket messages: a byte (in base64 protocols a character) names the channel, data follows."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cri_dockerd_py.streaming.protocol import websocket
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
COMMAND_CHANNELS = 5
_CLOSE_SIGNAL = 255
_FIRST_BASE64_CHANNEL = ord("0")


@dataclass(frozen=True, slots=True)
class ChannelProtocol:
    """How a sub-protocol writes channels; `name` is empty for a client that offers none."""

    name: str
    base64: bool = False
    half_close: bool = False
    json_status: bool = False


#: Of exec and attach.
COMMAND_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        ChannelProtocol("v5.channel.k8s.io", half_close=True, json_status=True),
        ChannelProtocol("v4.channel.k8s.io", json_status=True),
        ChannelProtocol("v4.base64.channel.k8s.io", base64=True, json_status=True),
        ChannelProtocol("channel.k8s.io"),
        ChannelProtocol("base64.channel.k8s.io", base64=True),
        ChannelProtocol(""),
    )
}

#: Of port-forward with one channel pair per port.
PORT_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        ChannelProtocol("v4.channel.k8s.io"),
        ChannelProtocol("v4.base64.channel.k8s.io", base64=True),
        ChannelProtocol(""),
    )
}

#: A SPDY connection inside binary messages.
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"


@dataclass(frozen=True, slots=True)
class ChannelData:
    """Bytes of a channel, perhaps only a part of its message."""

    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ChannelEnded:
    """The client has said everything on this channel."""

    channel: int


class ChannelReader:
    """Turns the pieces of messages into channels' data."""

    def __init__(self, protocol: ChannelProtocol, channels: int) -> None:
        self._protocol = protocol
        self._channels = channels
        self._channel: int | None = None
        self._kept = bytearray()

    def feed(self, piece: bytes, *, ends: bool) -> list[ChannelData | ChannelEnded]:
        """Return what a piece of a message means; raises ProtocolViolation for a close signal that names no channel."""
        if self._protocol.base64:
            return self._feed_base64(piece, ends)
        if self._channel is None:
            if not piece:
                return []
            self._channel, piece = piece[0], piece[1:]
        channel = self._channel
        if ends:
            self._channel = None
        if channel == _CLOSE_SIGNAL and self._protocol.half_close:
            return self._feed_close_signal(piece, ends)
        if channel >= self._channels or not piece:
            return []
        return [ChannelData(channel, piece)]

    def _feed_close_signal(self, piece: bytes, ends: bool) -> list[ChannelData | ChannelEnded]:
        self._kept += piece[:2]
        if not ends and len(self._kept) < 2:
            return []
        named, self._kept = bytes(self._kept), bytearray()
        if len(named) != 1 or named[0] >= self._channels:
            raise ProtocolViolation("a close signal does not name one of the channels")
        return [ChannelEnded(named[0])]

    def _feed_base64(self, piece: bytes, ends: bool) -> list[ChannelData | ChannelEnded]:
        self._kept += piece
        if not ends:
            return []
        message, self._kept = bytes(self._kept), bytearray()
        if not message or not 0 <= message[0] - _FIRST_BASE64_CHANNEL < self._channels:
            return []
        try:
            data = base64.b64decode(message[1:], validate=True)
        except binascii.Error:
            return []
        return [ChannelData(message[0] - _FIRST_BASE64_CHANNEL, data)] if data else []


def encode_channel(protocol: ChannelProtocol, channel: int, data: bytes) -> bytes:
    """Return one message of a channel as the server sends it."""
    if protocol.base64:
        text = bytes((_FIRST_BASE64_CHANNEL + channel,)) + base64.b64encode(data)
        return websocket.encode_frame(websocket.TEXT, text)
    return websocket.encode_frame(websocket.BINARY, bytes((channel,)) + data)
