"""SPDY inside WebSocket: the payloads of binary messages are a SPDY connection's bytes, wherever they are cut."""

from __future__ import annotations

from cri_dockerd_py.streaming.connection import Connection
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.process import PortOpener
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation
from cri_dockerd_py.streaming.protocol.websocket import BINARY, CLOSE_UNSUPPORTED, MessagePiece, encode_frame
from cri_dockerd_py.streaming.spdy_ports import SpdyPorts
from cri_dockerd_py.streaming.websocket_link import WebSocketLink


class Tunnel(WebSocketLink):
    """The handler of the WebSocket, and the link of the SPDY session inside."""

    def __init__(
        self, connection: Connection, pod_sandbox_id: str, open_port: PortOpener, options: StreamingOptions
    ) -> None:
        super().__init__(connection)
        self._inner = SpdyPorts(self, pod_sandbox_id, open_port, options)
        # Both layers can end the session: they share the reason.
        self.end = self._inner.end

    async def run(self) -> None:
        """Serve the client to the end."""
        await self._inner.run()

    def message(self, piece: MessagePiece) -> None:
        """Pass on what is inside."""
        if piece.text:
            raise ProtocolViolation("a text message in a tunnel", CLOSE_UNSUPPORTED)
        self._inner.received(piece.data)

    async def send(self, data: bytes) -> None:
        """Write SPDY frames as one message."""
        await self.connection.send(encode_frame(BINARY, data))

    def send_now(self, data: bytes) -> None:
        """Write SPDY frames as one message without waiting; an empty one would end some clients."""
        if data:
            self.connection.send_now(encode_frame(BINARY, data))

    def hold_reading(self) -> None:
        """Read nothing more until as many releases."""
        self.connection.hold_reading()

    def release_reading(self) -> None:
        """Undo one hold."""
        self.connection.release_reading()

    async def close(self, last: bytes = b"") -> None:
        """Close both layers."""
        await self.say_goodbye(encode_frame(BINARY, last) if last else b"")

    async def drop(self) -> None:
        """Close without a word."""
        await self.connection.drop()
