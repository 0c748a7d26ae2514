"""A client that speaks to streaming URLs byte by byte: SPDY, WebSocket, and SPDY inside WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from cri_dockerd_py.streaming.protocol import spdy_frames as frames
from cri_dockerd_py.streaming.protocol import websocket as ws
from cri_dockerd_py.streaming.protocol.spdy_headers import HeaderDecoder, HeaderEncoder

V5, V4, V3, V2, V1 = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
)
TUNNEL = "SPDY/3.1+portforward.k8s.io"
_READ_BYTES = 256 * 1024


@dataclass
class Head:
    """An answer's head."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known.lower() == name.lower()]


class Refused(Exception):
    """The upgrade was refused."""

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self.head = head


async def request(
    url: str, headers: Iterable[tuple[str, str]], method: str = "POST", tls: ssl.SSLContext | None = None
) -> tuple[Head, asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request's head and read the answer's, and a refusal's body."""
    parts = urlsplit(url)
    if parts.scheme == "https" and tls is None:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls, limit=1 << 20)
    lines = [f"{method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join((*lines, "", "")).encode())
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in raw[1:] if line)]
    head = Head(int(raw[0].split()[1]), fields)
    if head.status != 101:
        length = head.all("Content-Length")
        head.body = await reader.readexactly(int(length[0])) if length else await reader.read()
    return head, reader, writer


class Wire(Protocol):
    """A byte stream in both directions."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


class TcpWire:
    """The upgraded connection itself; `crumb` cuts what is written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, crumb: int = 0) -> None:
        self.reader, self.writer, self.crumb = reader, writer, crumb

    async def read(self) -> bytes:
        try:
            return await self.reader.read(_READ_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        size = self.crumb or len(data) or 1
        for start in range(0, len(data), size):
            self.writer.write(data[start : start + size])
            if self.crumb:
                await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        self.writer.transport.abort()


class WebSocketClient:
    """A WebSocket; `receive` returns whole messages and what is said about the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str) -> None:
        self.wire = TcpWire(reader, writer)
        self.protocol = protocol
        self._parser = ws.WebSocketReader(masked=False)
        self._events: list[ws.Event] = []
        self._message = bytearray()

    @classmethod
    async def open(cls, url: str, *protocols: str, lines: bool = False) -> Self:
        headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        headers.append(("Sec-WebSocket-Key", "nWQ7ADa3i6fiHL67VPidCw=="))
        offers = protocols if lines else ((", ".join(protocols),) if protocols else ())
        headers += [("Sec-WebSocket-Protocol", offer) for offer in offers]
        head, reader, writer = await request(url, headers, "GET")
        if head.status != 101:
            writer.close()
            raise Refused(head)
        return cls(reader, writer, "".join(head.all("Sec-WebSocket-Protocol")))

    async def receive(self) -> ws.Event | None:
        """Return the next message, ping, pong or close; None when the connection has ended."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if not isinstance(event, ws.MessagePiece):
                    return event
                self._message += event.data
                if event.ends:
                    whole, self._message = bytes(self._message), bytearray()
                    return ws.MessagePiece(event.text, whole, True)
            data = await self.wire.read()
            if not data:
                return None
            self._events += self._parser.receive(data)

    async def send(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        await self.wire.write(ws.encode_frame(opcode, payload, fin=fin, mask=os.urandom(4)))

    async def close(self, code: int = 1000) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.wire.write(ws.encode_close(code, mask=os.urandom(4)))
        await self.wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.wire.close()


@dataclass
class CommandResult:
    """What a client saw of an exec or attach session."""

    stdout: bytes
    stderr: bytes
    status: bytes
    close_code: int | None = None

    @property
    def exit_code(self) -> int:
        """The exit code as client-go understands it; nothing at all is success."""
        if not self.status:
            return 0
        status = json.loads(self.status)
        if status["status"] == "Success":
            return 0
        assert status.get("reason") == "NonZeroExitCode", status
        return int(status["details"]["causes"][0]["message"])


async def websocket_command(client: WebSocketClient, stdin: bytes | None = None) -> CommandResult:
    """Run a binary channel session to its end."""

    async def write() -> None:
        data = stdin or b""
        for start in range(0, len(data), 32768):
            await client.send(ws.BINARY, b"\0" + data[start : start + 32768])
        if client.protocol == V5:
            await client.send(ws.BINARY, b"\xff\0")

    writing = asyncio.ensure_future(write()) if stdin is not None else None
    channels = {1: bytearray(), 2: bytearray(), 3: bytearray()}
    code = None
    while (event := await client.receive()) is not None:
        if isinstance(event, ws.MessagePiece):
            assert event.data, "a message without a channel"
            channels[event.data[0]] += event.data[1:]
        elif isinstance(event, ws.CloseReceived):
            code = event.code
            break
    if writing is not None:
        writing.cancel()
        await asyncio.wait([writing])
    await client.close(code or 1000)
    return CommandResult(bytes(channels[1]), bytes(channels[2]), bytes(channels[3]), code)


class TunnelWire:
    """SPDY bytes inside WebSocket messages, cut into tiny ones with empty ones between when `crumb` is set."""

    def __init__(self, client: WebSocketClient, crumb: int = 0) -> None:
        self.client, self.crumb = client, crumb
        self.close_code: int | None = None

    async def read(self) -> bytes:
        while True:
            event = await self.client.receive()
            if isinstance(event, ws.MessagePiece):
                assert not event.text
                assert event.data, "an empty message"
                return event.data
            if event is None or isinstance(event, ws.CloseReceived):
                self.close_code = event.code if event else None
                return b""

    async def write(self, data: bytes) -> None:
        size = self.crumb or len(data) or 1
        for start in range(0, len(data), size):
            await self.client.send(ws.BINARY, data[start : start + size])
            if self.crumb:
                await self.client.send(ws.BINARY, b"")

    async def close(self) -> None:
        await self.client.close()


class Stream:
    """The client's side of one SPDY stream."""

    def __init__(self, connection: SpdyClient, stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.replied = asyncio.Event()
        self.received = bytearray()
        self.changed = asyncio.Event()
        self.ended = asyncio.Event()
        self.fin = False
        self.reset_status: int | None = None
        #: Set for what is too much to keep.
        self.digest: hashlib._Hash | None = None

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), 32768):
            await self.connection.write(frames.encode_data(self.stream_id, data[start : start + 32768]))

    async def end(self) -> None:
        await self.connection.write(frames.encode_data(self.stream_id, b"", fin=True))

    async def reset(self) -> None:
        await self.connection.write(frames.encode_rst_stream(self.stream_id, frames.RST_CANCEL))

    async def read_all(self) -> bytes:
        await self.ended.wait()
        return bytes(self.received)

    async def read_until(self, marker: bytes) -> bytes:
        while marker not in self.received:
            assert not self.ended.is_set(), bytes(self.received)
            self.changed.clear()
            await self.changed.wait()
        return bytes(self.received)


class SpdyClient:
    """A SPDY connection from the client's side; all its streams are read by one task."""

    def __init__(self, wire: Wire, protocol: str = "") -> None:
        self.wire = wire
        self.protocol = protocol
        self.deflate = HeaderEncoder()
        self._inflate = HeaderDecoder()
        self._parser = frames.FrameReader()
        self.streams: dict[int, Stream] = {}
        self.go_away: frames.GoAway | None = None
        self.pongs: list[int] = []
        self.resets: list[frames.RstStream] = []
        self.closed = asyncio.Event()
        self.left = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.changed = asyncio.Event()
        self.received_bytes = 0
        self._next_id = 1
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, url: str, *protocols: str, crumb: int = 0) -> Self:
        headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("Content-Length", "0")]
        headers += [("X-Stream-Protocol-Version", protocol) for protocol in protocols]
        head, reader, writer = await request(url, headers)
        if head.status != 101:
            writer.close()
            raise Refused(head)
        [protocol] = head.all("X-Stream-Protocol-Version")
        return cls(TcpWire(reader, writer, crumb), protocol)

    @classmethod
    async def open_tunnel(cls, url: str, crumb: int = 0) -> Self:
        client = await WebSocketClient.open(url, TUNNEL)
        assert client.protocol == TUNNEL
        return cls(TunnelWire(client, crumb))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def write(self, data: bytes) -> None:
        await self.wire.write(data)

    async def _read(self) -> None:
        while True:
            await self.may_read.wait()
            data = await self.wire.read()
            if not data:
                break
            taken: list[frames.Frame] = []
            self._parser.feed(data, taken)
            for frame in taken:
                self._apply(frame)
            self.changed.set()
        self.left.set()
        self.closed.set()
        self.changed.set()
        for stream in self.streams.values():
            stream.ended.set()
            stream.changed.set()
            stream.replied.set()

    def _apply(self, frame: frames.Frame) -> None:
        assert self.go_away is None, f"{frame} behind GOAWAY"
        match frame:
            case frames.SynReply():
                assert self._inflate.decode(frame.block) == {}
                self.streams[frame.stream_id].replied.set()
            case frames.DataPiece():
                stream = self.streams[frame.stream_id]
                assert stream.replied.is_set(), "data before the reply"
                assert not stream.fin, "data behind the end"
                self.received_bytes += len(frame.data)
                if stream.digest is not None:
                    stream.digest.update(frame.data)
                else:
                    stream.received += frame.data
                stream.changed.set()
                if frame.fin:
                    stream.fin = True
                    stream.ended.set()
            case frames.RstStream():
                self.resets.append(frame)
                if (known := self.streams.get(frame.stream_id)) is not None:
                    known.reset_status = frame.status
                    known.ended.set()
                    known.changed.set()
                    known.replied.set()
            case frames.Ping():
                self.pongs.append(frame.ping_id)
            case frames.GoAway():
                self.go_away = frame
                self.left.set()
                for stream in self.streams.values():
                    stream.ended.set()
                    stream.changed.set()
            case _:
                raise AssertionError(f"a server does not send {frame}")

    def new_stream(self, flags: int = 0, **headers: str) -> tuple[Stream, bytes]:
        """Return a stream and the frame that opens it."""
        stream = Stream(self, self._next_id)
        self.streams[self._next_id] = stream
        self._next_id += 2
        return stream, frames.encode_syn_stream(stream.stream_id, self.deflate.encode(headers), flags)

    async def create(self, flags: int = 0, **headers: str) -> Stream:
        """Open a stream and wait for the reply, as client-go does."""
        stream, frame = self.new_stream(flags, **headers)
        await self.write(frame)
        async with asyncio.timeout(30):
            await stream.replied.wait()
        return stream

    async def create_all(self, *kinds: str) -> dict[str, Stream]:
        return {kind: await self.create(streamtype=kind) for kind in kinds}

    async def pair(self, port: int, request_id: int) -> tuple[Stream, Stream]:
        """Open the two streams of a forwarded connection; returns (error, data)."""
        headers = {"port": str(port), "requestid": str(request_id)}
        error = await self.create(streamtype="error", **headers)
        await error.end()
        return error, await self.create(streamtype="data", **headers)

    async def say_goodbye(self) -> None:
        """Leave as client-go does: resets, GOAWAY, end of the connection."""
        for stream in self.streams.values():
            if not stream.ended.is_set():
                await stream.reset()
        await self.write(frames.encode_go_away(0, 0))
        await self.close()

    async def let_go(self) -> int:
        """Read no more, and return how many bytes of data have been read."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        return self.received_bytes

    async def close(self) -> None:
        await self.let_go()
        await self.wire.close()
        if not self._reading.cancelled():
            self._reading.result()

    async def command(self, *kinds: str, stdin: bytes | None = None) -> CommandResult:
        """Run an exec or attach session to its end."""
        streams = await self.create_all(*kinds)

        async def write() -> None:
            await streams["stdin"].write(stdin or b"")
            await streams["stdin"].end()

        writing = asyncio.ensure_future(write()) if stdin is not None else None
        outputs = [streams[kind] for kind in ("stdout", "stderr", "error") if kind in streams]
        for stream in outputs:
            await stream.ended.wait()
        if writing is not None:
            writing.cancel()
            await asyncio.wait([writing])
        await self.left.wait()
        await self.close()
        got = {kind: bytes(stream.received) for kind, stream in streams.items()}
        return CommandResult(got.get("stdout", b""), got.get("stderr", b""), got.get("error", b""))
