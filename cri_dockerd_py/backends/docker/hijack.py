"""Connections that Docker turns from HTTP into byte streams: exec and attach."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass

import aiohttp

from cri_dockerd_py.backends.docker.api_errors import error_for
from cri_dockerd_py.errors import InvalidArgument, Unavailable

_HEAD_LIMIT_BYTES = 64 << 10
_ERROR_LIMIT_BYTES = 1 << 20
_BUFFER_BYTES = 128 << 10
_CLOSE_WITHIN_S = 1.0
_PEER = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a daemon listens: a unix socket, or host and port."""

    socket_path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Return the endpoint of `unix:///path` or `tcp://host:port`."""
        scheme, _, rest = text.partition("://")
        if scheme == "unix" and rest.startswith("/"):
            return cls(socket_path=rest)
        host, _, port = rest.rstrip("/").rpartition(":")
        if scheme == "tcp" and host and port.isdecimal():
            return cls(host=host, port=int(port))
        raise InvalidArgument(f"{text!r} is no Docker endpoint: give unix:///path or tcp://host:port")

    @property
    def base_url(self) -> str:
        """The beginning of every URL."""
        return "http://localhost" if self.socket_path else f"http://{self.host}:{self.port}"

    def connector(self, connections: int, keep_alive_s: float) -> aiohttp.BaseConnector:
        """Return a pool of connections to it."""
        if self.socket_path:
            return aiohttp.UnixConnector(self.socket_path, limit=connections, keepalive_timeout=keep_alive_s)
        return aiohttp.TCPConnector(limit=connections, keepalive_timeout=keep_alive_s)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection of one's own."""
        if self.socket_path:
            return await asyncio.open_unix_connection(self.socket_path, limit=_BUFFER_BYTES)
        return await asyncio.open_connection(self.host, self.port, limit=_BUFFER_BYTES)

    async def knock(self) -> None:
        """Open a connection and leave; OSError when nobody listens."""
        _, writer = await self.open()
        writer.close()

    async def peer_pid(self) -> int:
        """Return the process that listens, 0 for one of another machine."""
        if not self.socket_path:
            return 0
        _, writer = await self.open()
        try:
            peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            return int(_PEER.unpack(peer)[0])
        finally:
            writer.close()

    def __str__(self) -> str:
        return f"unix://{self.socket_path}" if self.socket_path else f"tcp://{self.host}:{self.port}"


class HijackedConnection:
    """Raw bytes both ways; reading is pulled, so what is not read makes the other side wait."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._wrote_eof = False

    async def read(self, size: int = 64 << 10) -> bytes:
        """Return some bytes, or none at the end."""
        try:
            return await self._reader.read(size)
        except OSError:
            return b""

    async def readexactly(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end."""
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Write and wait for room; what the other side does not want any more is dropped."""
        if self._wrote_eof or self._writer.is_closing():
            return
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    def write_eof(self) -> None:
        """Close the writing half; may be called twice."""
        if not self._wrote_eof and not self._writer.is_closing():
            self._wrote_eof = True
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    async def close(self) -> None:
        """Close the connection; may be called twice. What the other side does not take soon is dropped."""
        self._writer.close()
        try:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await asyncio.shield(self._writer.wait_closed())
        finally:
            self._writer.transport.abort()


async def open_hijacked(endpoint: Endpoint, path: str, body: bytes, call: str) -> HijackedConnection:
    """Send a POST that asks for an upgrade; an answer other than that is raised as its error."""
    reader, writer = await endpoint.open()
    try:
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
            f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n".encode("ascii")
            + body
        )
        await writer.drain()
        status, length = await _read_head(reader, call)
        if status not in (101, 200):
            raise error_for(call, status, await _read_error(reader, length))
    except BaseException:
        writer.close()
        raise
    return HijackedConnection(reader, writer)


async def _read_head(reader: asyncio.StreamReader, call: str) -> tuple[int, int | None]:
    """Return the status and, where it is told, the length of the body."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Unavailable(f"Docker's answer to {call} is no HTTP: {error}") from error
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(head) > _HEAD_LIMIT_BYTES or not lines[0].startswith("HTTP/1.") or not words[1:] or not words[1].isdecimal():
        raise Unavailable(f"Docker's answer to {call} is no HTTP: {lines[0][:80]!r}")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length" and value.strip().isdecimal():
            return int(words[1]), int(value)
    return int(words[1]), None


async def _read_error(reader: asyncio.StreamReader, length: int | None) -> bytes:
    if length is not None:
        try:
            return await reader.readexactly(min(length, _ERROR_LIMIT_BYTES))
        except asyncio.IncompleteReadError as error:
            return error.partial
    return await reader.read(_ERROR_LIMIT_BYTES)
