"""Sockets that systemd has opened for us (`fd://`), and the relay that brings their connections to the gRPC server.

grpcio cannot listen on an inherited descriptor: its C core has the call, but the Python package exports nothing to
reach it. So the connections accepted there are passed on, byte for byte, to a private unix socket. A call costs one
more hop each way for that; a service that is not started by its socket does without.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument

_FIRST_DESCRIPTOR = 3  # systemd's SD_LISTEN_FDS_START
_PAUSE_S = 1.0

_log = logging.getLogger(__name__)


def inherited_listener(endpoint: str, environment: Mapping[str, str]) -> socket.socket:
    """Return the unix listener that `fd://`, `fd://<name>` or `fd://<number>` means."""
    count = _inherited_count(environment)
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    wanted = endpoint.removeprefix("fd://").strip("/*")
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count)
    for index, descriptor in enumerate(descriptors):
        name = names[index] if index < len(names) else ""
        if wanted in ("", str(descriptor), name) and (listener := _unix_listener(descriptor)) is not None:
            return listener
    raise FailedPrecondition(
        f"{endpoint} asks for a unix socket from systemd, and none of the {count} that were passed fits: "
        "start the service through its .socket unit, or listen on unix://<path>"
    )


def _inherited_count(environment: Mapping[str, str]) -> int:
    try:
        for_us = int(environment.get("LISTEN_PID", "0")) == os.getpid()
        return int(environment.get("LISTEN_FDS", "0")) if for_us else 0
    except ValueError:
        raise InvalidArgument("LISTEN_PID and LISTEN_FDS must be numbers, as systemd sets them") from None


def _unix_listener(descriptor: int) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
    except OSError:
        return None
    listening = listener.family == socket.AF_UNIX and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listening:
        listener.detach()
        return None
    return listener


class Relay:
    """Passes connections of a listener on to a unix socket; owns its tasks and connections.

    `admit` says of each connection whether it is; one that is not is closed.
    """

    def __init__(
        self, listener: socket.socket, target: str, admit: Callable[[socket.socket], bool] = lambda _: True
    ) -> None:
        self._listener = listener
        self._target = target
        self._admit = admit
        self._accepting: asyncio.Task[None] | None = None
        self._ends: set[_End] = set()

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(), name="relay of an inherited socket")

    async def stop(self) -> None:
        """Stop accepting and end all connections; the listening socket stays systemd's."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait((self._accepting,))
        for end in self._ends:
            end.close()
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
                if self._admit(connection):
                    await self._pass_on(connection)
                else:
                    connection.close()
            except OSError as error:
                _log.warning("cannot pass on a connection: %s", error)
                await asyncio.sleep(_PAUSE_S)

    async def _pass_on(self, connection: socket.socket) -> None:
        """Join the connection with one of our own to the server, which is in this process and accepts at once."""
        loop = asyncio.get_running_loop()
        client, server = _End(self._ends), _End(self._ends)
        client.other, server.other = server, client
        try:
            await loop.create_unix_connection(lambda: server, self._target)
            await loop.connect_accepted_socket(lambda: client, connection)
        except OSError:
            connection.close()
            server.close()
            raise


class _End(asyncio.Protocol):
    """One end of a relayed connection: what comes in here goes out at the other one, and no faster."""

    other: _End

    def __init__(self, ends: set[_End]) -> None:
        self._ends = ends
        self._transport: asyncio.Transport | None = None
        self._early = bytearray()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the other end before reading, and write what has come from it before this one was there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ends.add(self)
        if self.other._transport is None:
            transport.pause_reading()
            return
        transport.write(self._early)
        if self.other._ended:
            transport.write_eof()
        if self.other._transport.is_closing():
            transport.close()
        self.other._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass data on, or keep it for an end that is yet to come: Python 3.11 reads what `connection_made` pauses."""
        if self.other._transport is not None:
            self.other._transport.write(data)
        else:
            self.other._early += data

    def eof_received(self) -> bool:
        """Pass the end of this direction on; close when the other direction has ended too."""
        self._ended = True
        if self.other._ended:
            self.close()
        elif self.other._transport is not None:
            self.other._transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Read no more at the other end while this one is full."""
        if self.other._transport is not None:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading at the other end."""
        if self.other._transport is not None:
            self.other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end as well, after what it still has to write."""
        self._ends.discard(self)
        if self.other._transport is not None:
            self.other._transport.close()

    def close(self) -> None:
        """End this end, after what it still has to write; the other one follows."""
        if self._transport is not None:
            self._transport.close()
