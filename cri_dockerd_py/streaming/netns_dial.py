"""Connections to a pod's loopback: the socket is made inside the pod's network namespace, without a helper program.

A socket belongs to the namespace in which it was made, wherever it is used from. So only its making needs a thread
inside the namespace; that thread makes the sockets and ends, and never serves anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import threading

from cri_dockerd_py.errors import InvalidArgument, NotFound, Unavailable

_CLONE_NEWNET = 0x40000000
_DIAL_S = 10.0

#: Threads that may be inside of namespaces at once.
_THREADS = 8

_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))

_libc = ctypes.CDLL(None, use_errno=True)


class NetnsDialer:
    """Connects to ports of pods."""

    def __init__(self, within_s: float = _DIAL_S) -> None:
        self._within_s = within_s
        self._threads = asyncio.Semaphore(_THREADS)

    async def dial(self, netns_path: str, port: int) -> socket.socket:
        """Return a socket connected to `port` of the namespace's IPv4, else its IPv6 loopback.

        `netns_path` is empty for pods in the host's network namespace.
        """
        if not 0 < port <= 65535:
            raise InvalidArgument(f"port {port} is not a number from 1 to 65535")
        sockets = await self._make_sockets(netns_path)
        where = "on the host" if not netns_path else "inside the pod's network namespace"
        reasons = []
        try:
            async with asyncio.timeout(self._within_s):
                for (_, address), sock in zip(_LOOPBACKS, sockets, strict=False):
                    try:
                        await asyncio.get_running_loop().sock_connect(sock, (address, port))
                    except OSError as cause:
                        reasons.append(f"{address}: {os.strerror(cause.errno) if cause.errno else cause}")
                    else:
                        sockets.remove(sock)
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        return sock
        except TimeoutError:
            reasons.append(f"no answer within {self._within_s:.0f} s")
        finally:
            for sock in sockets:
                sock.close()
        raise Unavailable(f"failed to connect to localhost:{port} {where}: {'; '.join(reasons)}")

    async def _make_sockets(self, netns_path: str) -> list[socket.socket]:
        if not netns_path:
            return _make_loopback_sockets()
        async with self._threads:
            made = _start_thread(netns_path)
            try:
                return await asyncio.shield(made)
            except asyncio.CancelledError:
                made.add_done_callback(_close_unwanted)
                raise


def _start_thread(netns_path: str) -> asyncio.Future[list[socket.socket]]:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[list[socket.socket]] = loop.create_future()

    def enter_and_make() -> None:
        try:
            sockets = _make_inside(netns_path)
        except Exception as cause:
            _call_loop(loop, made.set_exception, cause)
        else:
            _call_loop(loop, made.set_result, sockets)

    threading.Thread(target=enter_and_make, name="streaming: netns", daemon=True).start()
    return made


def _call_loop(loop: asyncio.AbstractEventLoop, *call: object) -> None:
    # The loop is closed when the service ends meanwhile; nobody wants the answer then.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]


def _make_inside(netns_path: str) -> list[socket.socket]:
    """Enter the namespace with this thread, for good, and make the sockets."""
    try:
        fd = os.open(netns_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as cause:
        raise NotFound(f"the pod's network namespace {netns_path} cannot be opened: {cause.strerror}") from cause
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise Unavailable(f"the pod's network namespace {netns_path} cannot be entered: {reason}")
    finally:
        os.close(fd)
    return _make_loopback_sockets()


def _make_loopback_sockets() -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for family, _ in _LOOPBACKS:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as cause:
            # A kernel without IPv6 has only the first.
            if sockets:
                break
            raise Unavailable(f"no socket for a forwarded connection: {cause.strerror}") from cause
        sockets.append(sock)
    return sockets


def _close_unwanted(made: asyncio.Future[list[socket.socket]]) -> None:
    if not made.cancelled() and made.exception() is None:
        for sock in made.result():
            sock.close()
