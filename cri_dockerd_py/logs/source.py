"""A FIFO that is being read."""

from __future__ import annotations

import fcntl
import os
import stat
import termios
from struct import Struct

from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.logs.cri_format import Decoder
from cri_dockerd_py.logs.journal import Spool
from cri_dockerd_py.logs.log_file import translate

_PIPE_BYTES = (1 << 20, 512 << 10, 256 << 10)
_INT = Struct("i")


class Source:
    """One FIFO that is being read, with its decoder; without a spool its bytes are thrown away."""

    def __init__(self, fifo_path: str, fd: int, decoder: Decoder, spool: Spool | None, index: int) -> None:
        self.fifo_path = fifo_path
        self.fd = fd
        self.decoder = decoder
        self.spool = spool
        self.index = index
        self.capacity_bytes = widen(fd)

    def fullness(self) -> float:
        """How much of the pipe is in use (its pages are rarely filled to the last byte)."""
        (waiting,) = _INT.unpack(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(_INT.size)))
        return float(waiting / self.capacity_bytes)

    def close(self) -> None:
        """Close the FIFO and the spool."""
        os.close(self.fd)
        if self.spool is not None:
            self.spool.close()


def widen(fd: int) -> int:
    """Make the pipe as large as the kernel allows; answer its capacity."""
    for size in _PIPE_BYTES:
        try:
            return fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        except OSError:
            continue
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def open_fifo(path: str) -> int:
    """Open a FIFO for reading, whether or not somebody writes to it; FailedPrecondition where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise translate(error, f"open the FIFO {path}", FailedPrecondition) from error
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise FailedPrecondition(f"{path} is not a FIFO")
    return fd


def is_open(source: Source) -> bool:
    """Whether the FIFO at the source's path is the one that it reads; also when nothing is there any more."""
    try:
        return os.path.samestat(os.stat(source.fifo_path), os.fstat(source.fd))
    except OSError:
        return True
