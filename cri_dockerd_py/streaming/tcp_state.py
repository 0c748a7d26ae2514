"""What the kernel knows about a connection and a reader cannot see while it does not read."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

_CLOSE, _CLOSE_WAIT = 7, 8


def peer_has_closed(sock: socket.socket) -> bool:
    """Whether the peer's end has arrived, perhaps behind bytes that are not read yet."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in (_CLOSE, _CLOSE_WAIT)
    except OSError:
        return True


def unacknowledged_bytes(sock: socket.socket) -> int:
    """Return how many written bytes the peer's kernel does not have yet."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, ValueError):
        return 0
