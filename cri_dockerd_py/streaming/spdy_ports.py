"""Port-forward over SPDY: any number of connections, each a pair of streams."""

from __future__ import annotations

import asyncio
import logging

from cri_dockerd_py.errors import CriError
from cri_dockerd_py.streaming import jobs
from cri_dockerd_py.streaming.command_wire import EndedBy
from cri_dockerd_py.streaming.connection import ClientGone
from cri_dockerd_py.streaming.inbox import Inbox, ReadGate
from cri_dockerd_py.streaming.link import Ending, Link
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.process import PortOpener
from cri_dockerd_py.streaming.protocol import spdy_frames
from cri_dockerd_py.streaming.protocol.port_forward import Pair, PairTable, Refused, Waiting, failure_text
from cri_dockerd_py.streaming.protocol.spdy_connection import (
    Event,
    PeerLeft,
    SpdyConnection,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from cri_dockerd_py.streaming.protocol.violation import Violated
from cri_dockerd_py.streaming.relay import INBOX_BYTES, Relay, TargetReset

logger = logging.getLogger(__name__)

#: Bytes from the client that are kept for all targets together.
_TOTAL_INBOX_BYTES = 4 * INBOX_BYTES


class SpdyPorts(EndedBy):
    """A session, and the handler of its connection; it ends with the client, never with the last pair."""

    def __init__(self, link: Link, pod_sandbox_id: str, open_port: PortOpener, options: StreamingOptions) -> None:
        super().__init__()
        self._link = link
        self._pod_sandbox_id = pod_sandbox_id
        self._open_port = open_port
        self._options = options
        self._spdy = SpdyConnection()
        self._pairs = PairTable()
        self._gate = ReadGate(link, _TOTAL_INBOX_BYTES)
        self._said_goodbye = False
        #: By the data stream's id.
        self._inboxes: dict[int, Inbox] = {}
        self._forwards: dict[int, asyncio.Task[None]] = {}
        self._patience: dict[int, asyncio.TimerHandle] = {}

    async def run(self) -> None:
        """Serve the client to the end."""
        try:
            reason = await self.end.future
        finally:
            for timer in self._patience.values():
                timer.cancel()
            await jobs.cancel(list(self._forwards.values()))
        if reason is Ending.CLIENT_GONE:
            await self._link.drop()
        else:
            await self._link.close(b"" if self._said_goodbye else self._spdy.go_away())

    def received(self, data: bytes) -> None:
        """Take bytes from the client."""
        for event in self._spdy.receive(data):
            self._apply(event)
        self._link.send_now(self._spdy.take_answers())

    def held(self) -> None:
        """Clients over SPDY are patient by themselves."""

    def _apply(self, event: Event) -> None:
        if isinstance(event, StreamData):
            if event.stream_id in self._inboxes:
                self._inboxes[event.stream_id].put(event.data)
        elif isinstance(event, StreamOpened):
            if self.end.reason is None:
                self._open(event)
        elif isinstance(event, StreamEnded):
            if event.stream_id in self._inboxes:
                self._inboxes[event.stream_id].end()
        elif isinstance(event, StreamReset):
            self._reset(event.stream_id)
        elif isinstance(event, PeerLeft):
            self.lost()
        elif isinstance(event, Violated):
            logger.warning("a port-forward client broke SPDY: %s", event.reason)
            self._link.send_now(self._spdy.go_away(spdy_frames.GOAWAY_PROTOCOL_ERROR))
            self._said_goodbye = True
            self.end.give(Ending.VIOLATION)

    def _open(self, opened: StreamOpened) -> None:
        stream_id = opened.stream_id
        decision = self._pairs.add(stream_id, opened.headers)
        if isinstance(decision, Refused):
            logger.debug("a port-forward stream is refused: %s", decision.reason)
            self._link.send_now(self._spdy.reset(stream_id, spdy_frames.RST_REFUSED_STREAM))
            return
        self._link.send_now(self._spdy.accept(stream_id))
        if opened.headers["streamtype"] == "data":
            self._inboxes[stream_id] = self._gate.inbox(INBOX_BYTES)
        if isinstance(decision, Waiting):
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._options.creation_timeout_s, self._give_up, stream_id)
            self._patience[stream_id] = timer
            return
        for known_id in (decision.error_id, decision.data_id):
            self._be_patient_no_more(known_id)
        job = jobs.start(self._forward(decision), f"port {decision.port}")
        self._forwards[decision.data_id] = job
        job.add_done_callback(lambda _: self._close_pair(decision))

    def _be_patient_no_more(self, stream_id: int) -> bool:
        timer = self._patience.pop(stream_id, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _give_up(self, stream_id: int) -> None:
        """End the one stream of a pair whose other one does not come."""
        self._patience.pop(stream_id, None)
        dropped = self._pairs.drop(stream_id)
        if dropped is None:
            return
        self._forget(stream_id)
        text = f"(error or data stream, request={dropped}) timed out waiting for streams"
        answer = b"" if stream_id in self._inboxes else self._spdy.data(stream_id, text.encode())
        self._link.send_now(answer + self._spdy.reset(stream_id))

    def _reset(self, stream_id: int) -> None:
        """The client wants no more of a stream; a reset data stream ends its pair, a lone stream its request."""
        if stream_id in self._forwards:
            self._forwards[stream_id].cancel()
        if self._be_patient_no_more(stream_id):
            self._pairs.drop(stream_id)
            self._forget(stream_id)

    def _forget(self, data_id: int) -> None:
        self._forwards.pop(data_id, None)
        inbox = self._inboxes.pop(data_id, None)
        if inbox is not None:
            inbox.discard()

    def _close_pair(self, pair: Pair) -> None:
        self._forget(pair.data_id)
        self._link.send_now(self._spdy.reset(pair.data_id) + self._spdy.reset(pair.error_id))

    async def _forward(self, pair: Pair) -> None:
        try:
            await self._connect_and_relay(pair)
        except ClientGone:
            self.lost()
        except TargetReset as cause:
            # Without a text only this connection ends; any text makes the client end its session.
            logger.debug("port %d of %s dropped a connection: %s", pair.port, self._pod_sandbox_id, cause)

    async def _connect_and_relay(self, pair: Pair) -> None:
        try:
            target = await self._open_port(self._pod_sandbox_id, pair.port)
        except (CriError, OSError) as cause:
            logger.info("port %d of %s cannot be forwarded: %s", pair.port, self._pod_sandbox_id, cause)
            text = failure_text(pair.port, self._pod_sandbox_id, str(cause))
            self._link.send_now(self._spdy.data(pair.error_id, text.encode("utf-8", "replace")))
            return

        async def send(data: bytes) -> None:
            frame = self._spdy.data(pair.data_id, data)
            if frame:
                await self._link.send(frame)

        async def end() -> None:
            await self._link.send(self._spdy.end(pair.data_id) + self._spdy.end(pair.error_id))

        relay = Relay(target, self._inboxes[pair.data_id], send, end, self._options.half_closed_s)
        await relay.run(until_target_ends=False)
