"""An accepted socket: writes that wait for the peer, reading that can be held, and an end that loses no byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.tcp_state import peer_has_closed, unacknowledged_bytes

#: Written bytes that may wait here for the peer, before writers have to.
_HIGH_WATER_BYTES = 256 * 1024

#: A peer that makes us answer without ever reading gets this far.
_FLOOD_BYTES = 2 * 1024 * 1024

#: How often a peer is looked at while nothing is read from it, or while its end is waited for.
_LOOK_EVERY_S = 1.0

#: A client whose end is stuck behind bytes that nobody reads is found by asking its kernel, after a minute or two.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
)


class ClientGone(Exception):
    """The peer cannot be written to any more."""


class Handler(Protocol):
    """What understands a connection's bytes."""

    def received(self, data: bytes) -> None:
        """Take bytes in the order of the wire."""

    def lost(self) -> None:
        """The peer says nothing more and need not be answered; may be called twice."""

    def idle(self) -> None:
        """Nothing has moved for the idle timeout."""

    def held(self) -> None:
        """Reading is being held; called every second meanwhile."""


class Connection(asyncio.Protocol):
    """The socket's side of a session; a `Handler` is the other side."""

    def __init__(
        self,
        options: StreamingOptions,
        connected: Callable[[Connection], Handler],
        disconnected: Callable[[Connection], None],
    ) -> None:
        self._options = options
        self._connected = connected
        self._disconnected = disconnected
        self._loop = asyncio.get_running_loop()
        self._handler: Handler | None = None
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._write_turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._room.set()
        self._holds = 0
        self._finishing = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._moved_at = self._loop.time()
        #: Bytes that came from the peer, and that were given to the socket for it.
        self.received_bytes = 0
        self.sent_bytes = 0
        self._peer_done = asyncio.Event()
        self._closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve the peer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        for level, option, value in _SOCKET_OPTIONS:
            self._socket.setsockopt(level, option, value)
        transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        self._handler = self._connected(self)
        self._watch_idle()

    def use_handler(self, handler: Handler) -> None:
        """Hand all further bytes to another handler."""
        self._handler = handler

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        self._moved_at = self._loop.time()
        self.received_bytes += len(data)
        if self._handler is not None:
            self._handler.received(data)

    def eof_received(self) -> None:
        """Take the peer's end for its leave: behind a proxy there are no half-closed connections."""
        self._peer_done.set()
        if self._handler is not None:
            self._handler.lost()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everybody know who waits for the peer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._closed.set()
        self._peer_done.set()
        self._room.set()
        if self._handler is not None:
            self._handler.lost()
        self._handler = None
        self._disconnected(self)

    def pause_writing(self) -> None:
        """Make writers wait."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._room.set()

    async def send(self, data: bytes) -> None:
        """Write, after waiting for the peer to take most of what was written before; writers take turns."""
        if self._write_turn.locked() or not self._room.is_set():
            async with self._write_turn:
                await self._room.wait()
                self._write(data)
        else:
            self._write(data)

    def send_now(self, data: bytes) -> None:
        """Write a few bytes of the protocol itself without waiting."""
        if self._transport is None or self._transport.is_closing() or self._finishing or not data:
            return
        if self._transport.get_write_buffer_size() > _FLOOD_BYTES:
            self._transport.abort()
            return
        self._moved_at = self._loop.time()
        self._transport.write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing() or self._finishing:
            raise ClientGone
        self._moved_at = self._loop.time()
        self.sent_bytes += len(data)
        self._transport.write(data)

    def hold_reading(self) -> None:
        """Read nothing more from the peer until as many releases."""
        self._holds += 1
        if (
            self._holds == 1
            and not self._finishing
            and self._transport is not None
            and not self._transport.is_closing()
        ):
            self._transport.pause_reading()
            self._look_while_held()

    def release_reading(self) -> None:
        """Undo one hold."""
        self._holds -= 1
        if self._holds == 0:
            self._read_on()

    def _read_on(self) -> None:
        self._cancel_timer("held")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _look_while_held(self) -> None:
        """Notice the end of a peer whose bytes are not read, and let the handler keep it patient."""
        if self._handler is None or self._socket is None:
            return
        if peer_has_closed(self._socket):
            self._peer_done.set()
            self._handler.lost()
            return
        self._handler.held()
        self._set_timer("held", _LOOK_EVERY_S, self._look_while_held)

    def _watch_idle(self) -> None:
        left_s = self._moved_at + self._options.idle_timeout_s - self._loop.time()
        if left_s > 0:
            self._set_timer("idle", left_s, self._watch_idle)
        elif self._handler is not None:
            self._handler.idle()

    def peer_done(self) -> None:
        """Note that the peer has said its last word, which makes a wait for its end needless."""
        self._peer_done.set()

    async def close(self, last: bytes = b"", *, half_close: bool = False) -> None:
        """Write the last bytes and close, but only when the peer has closed too: unread bytes would void ours.

        The handler goes on getting what the peer sends, which it should drop. `half_close` ends our side at once;
        else the peer has to see from the last bytes that they are the last. A proxy between us and a peer that still
        sends would close both its connections at our end, and lose what the peer has not read yet.
        """
        transport = self._transport
        if transport is None:
            return
        self._cancel_timer("idle")
        if not transport.is_closing():
            try:
                transport.write(last)
                self._finishing = True
                self._read_on()
                if half_close:
                    _write_eof(transport)
                await self._linger(transport)
            finally:
                transport.close()
        await self._end(transport)

    async def _linger(self, transport: asyncio.Transport) -> None:
        """Wait for the peer's end as long as it takes or says anything, and a bit longer."""
        now = self._loop.time()
        give_up_at, moved_at, seen = now + self._options.linger_limit_s, now, (-1.0, -1)
        while not self._peer_done.is_set():
            now = self._loop.time()
            moved = (self._moved_at, self._unsent_bytes(transport))
            if moved != seen:
                seen, moved_at = moved, now
            elif now >= moved_at + _LOOK_EVERY_S:
                _write_eof(transport)
            left_s = min(moved_at + self._options.linger_s, give_up_at) - now
            if left_s <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LOOK_EVERY_S)):
                    await self._peer_done.wait()

    def _unsent_bytes(self, transport: asyncio.Transport) -> int:
        assert self._socket is not None
        return transport.get_write_buffer_size() + unacknowledged_bytes(self._socket)

    async def _end(self, transport: asyncio.Transport) -> None:
        """See to it that the socket is closed; what the peer does not take now is lost."""
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):
                await self._closed.wait()
        except TimeoutError:
            transport.abort()
            await self._closed.wait()

    async def drop(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()
            await self._closed.wait()

    def _set_timer(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        self._timers[name] = self._loop.call_later(delay_s, call)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def _write_eof(transport: asyncio.Transport) -> None:
    """End our side; a peer that has reset the connection while nothing was read from it is noticed only here."""
    if transport.can_write_eof():
        with contextlib.suppress(OSError):
            transport.write_eof()
