"""Port-forward over WebSocket channels: the ports of the request, one connection each, a channel pair per port."""

from __future__ import annotations

import asyncio
import logging

from cri_dockerd_py.errors import CriError
from cri_dockerd_py.streaming import jobs
from cri_dockerd_py.streaming.connection import ClientGone, Connection
from cri_dockerd_py.streaming.inbox import ReadGate
from cri_dockerd_py.streaming.link import Ending
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.process import PortOpener
from cri_dockerd_py.streaming.protocol.port_forward import failure_text
from cri_dockerd_py.streaming.protocol.websocket import MessagePiece
from cri_dockerd_py.streaming.protocol.websocket_channels import (
    ChannelData,
    ChannelProtocol,
    ChannelReader,
    encode_channel,
)
from cri_dockerd_py.streaming.relay import INBOX_BYTES, Relay, TargetReset
from cri_dockerd_py.streaming.requests import PortForwardRequest
from cri_dockerd_py.streaming.websocket_link import WebSocketLink

logger = logging.getLogger(__name__)

_TOTAL_INBOX_BYTES = 4 * INBOX_BYTES


class WebSocketPorts(WebSocketLink):
    """A session, and the handler of its connection; it ends when all ports have ended."""

    def __init__(
        self,
        connection: Connection,
        protocol: ChannelProtocol,
        request: PortForwardRequest,
        open_port: PortOpener,
        options: StreamingOptions,
    ) -> None:
        super().__init__(connection)
        self._protocol = protocol
        self._request = request
        self._open_port = open_port
        self._options = options
        self._channels = ChannelReader(protocol, 2 * len(request.ports))
        gate = ReadGate(connection, _TOTAL_INBOX_BYTES)
        self._inboxes = [gate.inbox(INBOX_BYTES) for _ in request.ports]
        for index, port in enumerate(request.ports):
            prefix = port.to_bytes(2, "little")
            for channel in (2 * index, 2 * index + 1):
                connection.send_now(encode_channel(protocol, channel, prefix))

    def message(self, piece: MessagePiece) -> None:
        """Pass a piece of a message to its port; clients say nothing on error channels."""
        for event in self._channels.feed(piece.data, ends=piece.ends):
            if isinstance(event, ChannelData) and event.channel % 2 == 0:
                self._inboxes[event.channel // 2].put(event.data)

    async def run(self) -> None:
        """Serve the client to the end."""
        forwards = [
            jobs.start(self._forward(index, port), f"port {port}") for index, port in enumerate(self._request.ports)
        ]
        all_ended = asyncio.gather(*forwards, return_exceptions=True)
        try:
            await asyncio.wait((all_ended, self.end.future), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await jobs.cancel(forwards)
            await asyncio.wait((all_ended,))
        if self.end.reason is Ending.CLIENT_GONE:
            await self.connection.drop()
        else:
            await self.say_goodbye()

    async def _forward(self, index: int, port: int) -> None:
        inbox, sandbox_id = self._inboxes[index], self._request.pod_sandbox_id
        try:
            target = await self._open_port(sandbox_id, port)
        except (CriError, OSError) as cause:
            inbox.discard()
            text = failure_text(port, sandbox_id, str(cause)).encode("utf-8", "replace")
            self.connection.send_now(encode_channel(self._protocol, 2 * index + 1, text))
            return

        async def send(data: bytes) -> None:
            await self.connection.send(encode_channel(self._protocol, 2 * index, data))

        try:
            # A channel cannot be ended on its own, so the client learns of the target's end only with the last.
            await Relay(target, inbox, send, _nothing, self._options.half_closed_s).run(until_target_ends=True)
        except ClientGone:
            self.lost()
        except TargetReset as cause:
            logger.debug("port %d of %s dropped a connection: %s", port, sandbox_id, cause)


async def _nothing() -> None:
    """The end of one channel cannot be told."""
