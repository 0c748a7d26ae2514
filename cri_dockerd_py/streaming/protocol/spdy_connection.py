"""The server's side of a SPDY/3.1 connection: received bytes become events, method calls become bytes to send.

A client's own library goes on sending DATA on streams that are over; that is never an error here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cri_dockerd_py.streaming.protocol import spdy_frames as frames
from cri_dockerd_py.streaming.protocol.spdy_headers import HeaderDecoder, HeaderEncoder
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation, Violated

#: Streams that may live at once; a client that opens more is refused further ones.
MAX_STREAMS = 1000


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The client asks for a stream: answer with `accept` or `reset`."""

    stream_id: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StreamData:
    """Bytes of a live stream, perhaps of one that is not answered yet."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The client has said everything on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The client has dropped this stream in both directions."""

    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The client has sent GOAWAY: it will not read another byte."""

    status: int


Event = StreamOpened | StreamData | StreamEnded | StreamReset | PeerLeft | Violated


class _Stream:
    """Which sides of a stream may still speak."""

    __slots__ = ("local_open", "remote_open")

    def __init__(self, local_open: bool, remote_open: bool) -> None:
        self.local_open = local_open
        self.remote_open = remote_open


class SpdyConnection:
    """State of one connection. `receive` may leave answers behind (`take_answers`) that have to be sent soon."""

    def __init__(self) -> None:
        self._reader = frames.FrameReader()
        self._inflate = HeaderDecoder()
        self._deflate: HeaderEncoder | None = None
        self._streams: dict[int, _Stream] = {}
        self._last_stream_id = 0
        self._answers: list[bytes] = []
        self._broken = False

    @property
    def stream_count(self) -> int:
        """Number of streams on which at least one side may still speak."""
        return len(self._streams)

    def receive(self, received: bytes) -> list[Event]:
        """Return what the bytes mean; `Violated` is the last event ever."""
        if self._broken:
            return []
        events: list[Event] = []
        taken: list[frames.Frame] = []
        violation = None
        try:
            self._reader.feed(received, taken)
        except ProtocolViolation as cause:
            violation = cause
        try:
            for frame in taken:
                self._apply(frame, events)
        except ProtocolViolation as cause:
            violation = cause
        if violation is not None:
            self._broken = True
            events.append(Violated(str(violation)))
        return events

    def take_answers(self) -> bytes:
        """Return what the protocol itself has to say: echoed pings and refused streams."""
        answers, self._answers = b"".join(self._answers), []
        return answers

    def accept(self, stream_id: int) -> bytes:
        """Answer a SYN_STREAM; before this nothing may be sent on the stream."""
        if stream_id not in self._streams:
            return b""
        if self._deflate is None:
            self._deflate = HeaderEncoder()
        return frames.encode_syn_reply(stream_id, self._deflate.encode({}))

    def data(self, stream_id: int, data: bytes) -> bytes:
        """Return a DATA frame, or nothing when the stream takes no more."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.local_open or not data:
            return b""
        return frames.encode_data(stream_id, data)

    def end(self, stream_id: int) -> bytes:
        """Half-close the stream: nothing more is said on it."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.local_open:
            return b""
        stream.local_open = False
        self._forget_if_over(stream_id, stream)
        return frames.encode_data(stream_id, b"", fin=True)

    def reset(self, stream_id: int, status: int = frames.RST_CANCEL) -> bytes:
        """Drop a stream, or refuse one that is not answered yet."""
        if self._streams.pop(stream_id, None) is None:
            return b""
        return frames.encode_rst_stream(stream_id, status)

    def go_away(self, status: int = frames.GOAWAY_OK) -> bytes:
        """Say the last word; the client reads nothing behind it."""
        return frames.encode_go_away(self._last_stream_id, status)

    def _apply(self, frame: frames.Frame, events: list[Event]) -> None:
        if isinstance(frame, frames.DataPiece):
            self._take_data(frame, events)
        elif isinstance(frame, frames.SynStream):
            self._open(frame, events)
        elif isinstance(frame, frames.RstStream):
            if self._streams.pop(frame.stream_id, None) is not None:
                events.append(StreamReset(frame.stream_id, frame.status))
        elif isinstance(frame, frames.Ping):
            # Even numbers are a server's own; we send none, so one that comes back answers nothing.
            if frame.ping_id % 2:
                self._answers.append(frames.encode_ping(frame.ping_id))
        elif isinstance(frame, frames.GoAway):
            events.append(PeerLeft(frame.status))
        elif isinstance(frame, frames.SynReply | frames.HeadersFrame):
            self._inflate.decode(frame.block)
            if frame.flags & frames.FLAG_FIN:
                self._end_remote(frame.stream_id, events)

    def _take_data(self, piece: frames.DataPiece, events: list[Event]) -> None:
        stream = self._streams.get(piece.stream_id)
        if stream is None or not stream.remote_open:
            return
        if piece.data:
            events.append(StreamData(piece.stream_id, piece.data))
        if piece.fin:
            self._end_remote(piece.stream_id, events)

    def _open(self, frame: frames.SynStream, events: list[Event]) -> None:
        headers = self._inflate.decode(frame.block)
        if frame.stream_id == 0:
            raise ProtocolViolation("a stream has the id 0")
        if frame.stream_id <= self._last_stream_id:
            self._answers.append(frames.encode_rst_stream(frame.stream_id, frames.RST_PROTOCOL_ERROR))
            return
        self._last_stream_id = frame.stream_id
        if len(self._streams) >= MAX_STREAMS:
            self._answers.append(frames.encode_rst_stream(frame.stream_id, frames.RST_REFUSED_STREAM))
            return
        one_way = bool(frame.flags & frames.FLAG_UNIDIRECTIONAL)
        self._streams[frame.stream_id] = _Stream(local_open=not one_way, remote_open=True)
        events.append(StreamOpened(frame.stream_id, headers))
        if frame.flags & frames.FLAG_FIN:
            self._end_remote(frame.stream_id, events)

    def _end_remote(self, stream_id: int, events: list[Event]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            return
        stream.remote_open = False
        self._forget_if_over(stream_id, stream)
        events.append(StreamEnded(stream_id))

    def _forget_if_over(self, stream_id: int, stream: _Stream) -> None:
        if not stream.local_open and not stream.remote_open:
            del self._streams[stream_id]
