"""What survives a kill at any instant: the raw bytes in flight and how far the log file had got.

A FIFO's bytes are spliced into a spool file, so taking them and keeping them is one step. Once their text is in the
log, `flip` drops them: the unfinished rest is written to the other spool file, one small write to the journal makes
that file the current one (and records the log's new length), and the old one is emptied. After a kill the current
spool holds exactly the bytes whose text is not, or only partly, behind the recorded length of the log file.
Only the page cache must survive, so nothing is synced; the directory belongs on a tmpfs.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from zlib import crc32

logger = logging.getLogger(__name__)

_MAGIC = b"CRIL"
_MARK = Struct("<4sI3Qq")  # magic, active spools, device, inode, length, last time
_CHECK = Struct("<I")
_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Mark:
    """The last commit: which spool files are current, and the log file as it was then."""

    active_spools: int
    device: int
    inode: int
    log_bytes: int
    last_ns: int


class Journal:
    """One mark, replaced by a write that is too small to be cut in two."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / "journal", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)

    def load(self) -> Mark | None:
        """The last mark; None when there is none yet."""
        record = os.pread(self._fd, _MARK.size + _CHECK.size, 0)
        if len(record) != _MARK.size + _CHECK.size or _CHECK.unpack_from(record, _MARK.size)[0] != crc32(
            record[: _MARK.size]
        ):
            return None
        magic, active, device, inode, log_bytes, last_ns = _MARK.unpack_from(record)
        return Mark(active, device, inode, log_bytes, last_ns) if magic == _MAGIC else None

    def save(self, mark: Mark) -> None:
        """Make `mark` the last commit."""
        record = _MARK.pack(_MAGIC, mark.active_spools, mark.device, mark.inode, mark.log_bytes, mark.last_ns)
        os.pwrite(self._fd, record + _CHECK.pack(crc32(record)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Spool:
    """The bytes taken from one FIFO whose text is not yet committed, in two files that take turns."""

    def __init__(self, directory: Path, index: int, active: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fds: list[int] = []
        self._active = active
        self._staged_bytes = 0
        try:
            for side in "ab":
                self._fds.append(os.open(directory / f"spool-{index}{side}", flags, _FILE_MODE))
            os.ftruncate(self._fds[1 - active], 0)
            self._bytes = os.fstat(self._fds[active]).st_size
            self._kept = os.pread(self._fds[active], self._bytes, 0)
        except BaseException:
            self.close()
            raise

    @property
    def pending(self) -> bytes:
        """All bytes taken and not committed."""
        return self._kept

    def fill(self, fifo: int, limit_bytes: int) -> bytes:
        """Take up to `limit_bytes` from the FIFO; nothing at its end; BlockingIOError when it is empty."""
        begin = self._bytes
        taken = os.splice(fifo, self._fds[self._active], limit_bytes, None, begin, os.SPLICE_F_NONBLOCK)
        self._bytes += taken
        fresh = os.pread(self._fds[self._active], taken, begin)
        self._kept = self._kept + fresh if self._kept else fresh
        return fresh

    def take(self, data: bytes) -> None:
        """Hold bytes that could not be spooled in memory alone: no room for the spool must not stall a container."""
        self._kept += data

    def stage(self, rest: bytes) -> None:
        """Put what remains uncommitted into the other file."""
        self._kept = rest
        self._staged_bytes = 0
        if not rest:
            return
        try:
            self._staged_bytes = os.pwrite(self._fds[1 - self._active], rest, 0)
        except OSError as error:
            logger.warning("no room to spool log data in flight, a crash now would lose it: %s", error)

    def flip(self) -> None:
        """After the journal has named the other file the current one: empty this one."""
        os.ftruncate(self._fds[self._active], 0)
        self._active = 1 - self._active
        self._bytes = self._staged_bytes

    def close(self) -> None:
        """Close both files."""
        for fd in self._fds:
            os.close(fd)
