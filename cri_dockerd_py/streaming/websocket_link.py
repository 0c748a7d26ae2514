"""What every session over WebSocket does alike: answers pings, says goodbye, keeps the client patient."""

from __future__ import annotations

import asyncio
import logging

from cri_dockerd_py.streaming.command_wire import EndedBy
from cri_dockerd_py.streaming.connection import Connection
from cri_dockerd_py.streaming.link import Ending
from cri_dockerd_py.streaming.protocol import websocket
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation, Violated

logger = logging.getLogger(__name__)

#: Clients give up without a pong for 16 s, and theirs cannot be answered while nothing is read.
_PONG_EVERY_S = 5.0


class WebSocketLink(EndedBy):
    """The handler of a WebSocket's connection; a session overrides `message`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self._reader = websocket.WebSocketReader()
        self._said_close = False
        self._pong_at = 0.0

    def message(self, piece: websocket.MessagePiece) -> None:
        """Take a piece of a message; raises ProtocolViolation."""
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        """Take bytes from the client."""
        for event in self._reader.receive(data):
            try:
                self._apply(event)
            except ProtocolViolation as cause:
                self._broken(str(cause), cause.close_code)
                return

    def held(self) -> None:
        """Send a pong that nobody asked for, because pings lie behind the bytes that are not read."""
        now = asyncio.get_running_loop().time()
        if now - self._pong_at >= _PONG_EVERY_S:
            self._pong_at = now
            self.connection.send_now(websocket.encode_frame(websocket.PONG, b""))

    def _apply(self, event: websocket.Event) -> None:
        if isinstance(event, websocket.MessagePiece):
            if not self._said_close:
                self.message(event)
        elif isinstance(event, websocket.PingReceived):
            if not self._said_close:
                self.connection.send_now(websocket.encode_frame(websocket.PONG, event.payload))
        elif isinstance(event, websocket.CloseReceived):
            self.connection.send_now(self.goodbye())
            self.connection.peer_done()
            self.lost()
        elif isinstance(event, Violated):
            self._broken(event.reason, event.close_code)

    def _broken(self, reason: str, close_code: int) -> None:
        logger.warning("a streaming client broke its WebSocket protocol: %s", reason)
        self.connection.send_now(self.goodbye(close_code))
        self.end.give(Ending.VIOLATION)

    def goodbye(self, code: int = websocket.CLOSE_NORMAL) -> bytes:
        """Return the close frame, which is said only once."""
        if self._said_close:
            return b""
        self._said_close = True
        return websocket.encode_close(code)

    async def say_goodbye(self, last: bytes = b"") -> None:
        """Write the last bytes and a normal close, and wait for the client's."""
        await self.connection.close(b"" if self._said_close else last + self.goodbye())
