"""Exec and attach over SPDY: one SPDY stream per stream of the process."""

from __future__ import annotations

import asyncio
import logging

from cri_dockerd_py.streaming.command_wire import STDIN_LIMIT_BYTES, EndedBy, SizeQueue
from cri_dockerd_py.streaming.inbox import ReadGate
from cri_dockerd_py.streaming.link import Ending, Link
from cri_dockerd_py.streaming.process import STDERR
from cri_dockerd_py.streaming.protocol import remote_command, spdy_frames
from cri_dockerd_py.streaming.protocol.remote_command import (
    Admission,
    Outcome,
    ResizeReader,
    Streams,
    StreamSetup,
    encode_outcome,
    has_json_status,
)
from cri_dockerd_py.streaming.protocol.spdy_connection import (
    Event,
    PeerLeft,
    SpdyConnection,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation, Violated

logger = logging.getLogger(__name__)

#: Clients keep a whole frame in memory before they pass it on.
FRAME_BYTES = 64 * 1024


class SpdyCommand(EndedBy):
    """The client's side of a session (a `CommandWire`), and the handler of its connection."""

    def __init__(self, link: Link, protocol: str, wanted: Streams) -> None:
        super().__init__()
        self._link = link
        self._spdy = SpdyConnection()
        self._setup = StreamSetup(wanted, protocol)
        self._as_json = has_json_status(protocol)
        self._said_goodbye = False
        self._opened = asyncio.Event()
        self._resizes = ResizeReader()
        self.stdin = ReadGate(link, STDIN_LIMIT_BYTES).inbox(STDIN_LIMIT_BYTES)
        self.sizes = SizeQueue()

    def received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._said_goodbye:
            return
        try:
            for event in self._spdy.receive(data):
                self._apply(event)
        except ProtocolViolation as cause:
            self._broken(str(cause))
        self._link.send_now(self._spdy.take_answers())

    def held(self) -> None:
        """Clients over SPDY are patient by themselves."""

    def _apply(self, event: Event) -> None:
        ids = self._setup.stream_ids
        if isinstance(event, StreamData):
            if event.stream_id == ids.get(remote_command.STDIN):
                self.stdin.put(event.data)
            elif event.stream_id == ids.get(remote_command.RESIZE):
                self.sizes.put(self._resizes.feed(event.data, asyncio.get_running_loop().time()))
        elif isinstance(event, StreamOpened):
            self._answer(event)
        elif isinstance(event, StreamEnded | StreamReset):
            if event.stream_id == ids.get(remote_command.STDIN):
                self.stdin.end()
        elif isinstance(event, PeerLeft):
            self.lost()
        elif isinstance(event, Violated):
            self._broken(event.reason)

    def _broken(self, reason: str) -> None:
        logger.warning("a streaming client broke SPDY: %s", reason)
        self._link.send_now(self._spdy.go_away(spdy_frames.GOAWAY_PROTOCOL_ERROR))
        self._said_goodbye = True
        self.end.give(Ending.VIOLATION)

    def _answer(self, opened: StreamOpened) -> None:
        stream_id = opened.stream_id
        match self._setup.admit(stream_id, opened.headers):
            case Admission.ACCEPT:
                answer = self._spdy.accept(stream_id)
            case Admission.ACCEPT_AND_END:
                answer = self._spdy.accept(stream_id) + self._spdy.end(stream_id)
            case Admission.REFUSE:
                answer = self._spdy.reset(stream_id, spdy_frames.RST_REFUSED_STREAM)
            case Admission.REFUSE_AS_WRONG:
                answer = self._spdy.reset(stream_id, spdy_frames.RST_PROTOCOL_ERROR)
        self._link.send_now(answer)
        if self._setup.complete:
            self._opened.set()

    async def opened(self) -> None:
        """Return when the client has opened all streams."""
        await self._opened.wait()

    @property
    def missing(self) -> str:
        """The streams that the client has not opened, for people."""
        return self._setup.missing

    async def write(self, stream: int, data: bytes) -> None:
        """Send output and wait for room; output that the client has reset is dropped."""
        name = remote_command.STDERR if stream == STDERR else remote_command.STDOUT
        stream_id = self._setup.stream_ids.get(name)
        if stream_id is None:
            return
        for start in range(0, len(data), FRAME_BYTES):
            frame = self._spdy.data(stream_id, data[start : start + FRAME_BYTES])
            if frame:
                await self._link.send(frame)

    async def finish(self, outcome: Outcome) -> None:
        """End the outputs, tell how it ended, and go: the client reads nothing behind GOAWAY."""
        self.stdin.discard()
        await self._link.close(b"" if self._said_goodbye else self._last_words(outcome))

    def _last_words(self, outcome: Outcome) -> bytes:
        ids = self._setup.stream_ids
        last = [self._spdy.end(ids[name]) for name in (remote_command.STDOUT, remote_command.STDERR) if name in ids]
        if remote_command.ERROR in ids:
            error_id = ids[remote_command.ERROR]
            last.append(self._spdy.data(error_id, encode_outcome(outcome, as_json=self._as_json)))
            last.append(self._spdy.end(error_id))
        last += [self._spdy.end(ids[name]) for name in (remote_command.STDIN, remote_command.RESIZE) if name in ids]
        last.append(self._spdy.go_away())
        return b"".join(last)

    async def drop(self) -> None:
        """Close without a word."""
        self.stdin.discard()
        await self._link.drop()
