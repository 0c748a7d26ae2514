"""Sockets that systemd has opened for us (`fd://`), and the relay that brings their connections to the gRPC server.

grpcio cannot listen on an inherited descriptor: its C core has the call, but the Python package exports nothing to
reach it. So the connections accepted there are passed on, byte for byte, to a private unix socket. A call costs one
more hop each way for that; a service that is not started by its socket does without.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine, Mapping

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument

_FIRST_DESCRIPTOR = 3  # systemd's SD_LISTEN_FDS_START
_CHUNK_BYTES = 256 * 1024


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
    """Passes connections of a listener on to a unix socket; owns its tasks."""

    def __init__(self, listener: socket.socket, target: str) -> None:
        self._listener = listener
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._own(self._accept(), "relay accept")

    async def stop(self) -> None:
        """Stop accepting and end all connections; the listener stays systemd's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    def _own(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            self._own(self._pass_on(connection), "relay connection")

    async def _pass_on(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.sock_connect(server, self._target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(connection, server))
                    both.create_task(_copy(server, connection))


async def _copy(source: socket.socket, destination: socket.socket) -> None:
    """Copy until the source ends, then say so to the destination; a broken connection is an end."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while chunk := await loop.sock_recv(source, _CHUNK_BYTES):
            await loop.sock_sendall(destination, chunk)
    with contextlib.suppress(OSError):
        destination.shutdown(socket.SHUT_WR)
