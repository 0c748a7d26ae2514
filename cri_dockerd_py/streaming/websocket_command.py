"""Exec and attach over WebSocket: one channel per stream of the process."""

from __future__ import annotations

import asyncio

from cri_dockerd_py.streaming.command_wire import STDIN_LIMIT_BYTES, SizeQueue
from cri_dockerd_py.streaming.connection import Connection
from cri_dockerd_py.streaming.inbox import ReadGate
from cri_dockerd_py.streaming.process import STDERR as STDERR_STREAM
from cri_dockerd_py.streaming.protocol.remote_command import Outcome, ResizeReader, Streams, encode_outcome
from cri_dockerd_py.streaming.protocol.websocket import MessagePiece
from cri_dockerd_py.streaming.protocol.websocket_channels import (
    COMMAND_CHANNELS,
    ERROR,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    ChannelEnded,
    ChannelProtocol,
    ChannelReader,
    encode_channel,
)
from cri_dockerd_py.streaming.websocket_link import WebSocketLink

#: The largest message that Kubernetes' own servers send.
_MESSAGE_BYTES = 32 * 1024


class WebSocketCommand(WebSocketLink):
    """The client's side of a session (a `CommandWire`), and the handler of its connection."""

    def __init__(self, connection: Connection, protocol: ChannelProtocol, wanted: Streams) -> None:
        super().__init__(connection)
        self._protocol = protocol
        self._wanted = wanted
        self._channels = ChannelReader(protocol, COMMAND_CHANNELS)
        self._resizes = ResizeReader()
        self.stdin = ReadGate(connection, STDIN_LIMIT_BYTES).inbox(STDIN_LIMIT_BYTES)
        self.sizes = SizeQueue()
        first = STDOUT if wanted.stdout else STDERR if wanted.stderr else ERROR
        connection.send_now(encode_channel(protocol, first, b""))

    def message(self, piece: MessagePiece) -> None:
        """Pass a piece of a message to its channel."""
        for event in self._channels.feed(piece.data, ends=piece.ends):
            if isinstance(event, ChannelEnded):
                if event.channel == STDIN:
                    self.stdin.end()
            elif event.channel == STDIN and self._wanted.stdin:
                self.stdin.put(event.data)
            elif event.channel == RESIZE and self._wanted.tty:
                self.sizes.put(self._resizes.feed(event.data, asyncio.get_running_loop().time()))

    async def opened(self) -> None:
        """Channels exist from the start."""

    @property
    def missing(self) -> str:
        """Channels exist from the start."""
        return ""

    async def write(self, stream: int, data: bytes) -> None:
        """Send output and wait for room."""
        channel = STDERR if stream == STDERR_STREAM else STDOUT
        for start in range(0, len(data), _MESSAGE_BYTES):
            await self.connection.send(encode_channel(self._protocol, channel, data[start : start + _MESSAGE_BYTES]))

    async def finish(self, outcome: Outcome) -> None:
        """Tell how it ended; without the normal close behind it a client does not believe it."""
        self.stdin.discard()
        status = encode_outcome(outcome, as_json=self._protocol.json_status)
        await self.say_goodbye(encode_channel(self._protocol, ERROR, status) if status else b"")

    async def drop(self) -> None:
        """Close without a word."""
        self.stdin.discard()
        await self.connection.drop()
