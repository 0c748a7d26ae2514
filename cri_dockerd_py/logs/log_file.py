"""One container's log file: opened without trusting the directory, appended to in whole lines, replaced on request."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

from cri_dockerd_py.errors import CriError, FailedPrecondition, Internal, InvalidArgument, ResourceExhausted

logger = logging.getLogger(__name__)

_APPEND = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o755


def check_path(path: str) -> Path:
    """The path as given, if it is one that a log may be written to."""
    if not path.startswith("/") or "\0" in path or path.endswith("/") or ".." in path.split("/"):
        raise InvalidArgument(f"log path {path!r} is not an absolute file path without '..'")
    return Path(path)


def make_directory(path: Path) -> None:
    """Make the directory of the log file at `path`, with all above it."""
    try:
        path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise translate(error, f"make the directory of log file {path}") from error


def open_for_append(path: Path) -> int:
    """Open or create the regular file at `path`; a symbolic link there is replaced, never followed."""
    make_directory(path)
    try:
        fd = _open_or_create(path)
    except OSError as error:
        raise translate(error, f"open log file {path}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FailedPrecondition(f"log path {path} is not a regular file; remove what is there")
    return fd


def _open_or_create(path: Path) -> int:
    try:
        return os.open(path, _APPEND)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        path.unlink()
    fd = os.open(path, _APPEND | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    os.fchmod(fd, _FILE_MODE)
    return fd


def translate(error: OSError, what: str, otherwise: type[CriError] = Internal) -> CriError:
    """Return the error for callers that says what could not be done; `otherwise` is for causes of no known kind."""
    text = f"cannot {what}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
        return ResourceExhausted(text)
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.ENXIO):
        return FailedPrecondition(text)
    return otherwise(text)


class LogFile:
    """The open log file and its length; `path` is where it was opened, a rename does not matter."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self.length = 0
        self.device = 0
        self.inode = 0
        self._refusing = False
        self.refresh()

    @classmethod
    def open(cls, path: Path) -> LogFile:
        """Open or create the file."""
        return cls(path, open_for_append(path))

    @classmethod
    def find(cls, path: Path, device: int, inode: int) -> LogFile | None:
        """The file with this inode in the directory of `path`, whatever its name is now; None when it is gone."""
        names = [path.name]
        try:
            names += [entry.name for entry in os.scandir(path.parent) if entry.inode() == inode]
        except OSError:
            return None
        for name in names:
            try:
                fd = os.open(path.parent / name, _APPEND)
            except OSError:
                continue
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) == (device, inode) and stat.S_ISREG(found.st_mode):
                return cls(path, fd)
            os.close(fd)
        return None

    def refresh(self) -> None:
        """Look at the file again: someone else may have changed its length or put another in its place."""
        now = os.fstat(self._fd)
        if now.st_nlink == 0 and self._replaced():
            now = os.fstat(self._fd)
        self.device, self.inode, self.length = now.st_dev, now.st_ino, now.st_size

    def _replaced(self) -> bool:
        """Our file was deleted: move over to the one that is at its path now, if there is one."""
        try:
            fd = os.open(self.path, _APPEND)
        except OSError:
            return False
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return False
        os.close(self._fd)
        self._fd = fd
        return True

    def append(self, text: bytes) -> int:
        """Append whole lines; answer how many bytes are kept, fewer than given when the file system refuses more."""
        written = 0
        try:
            while written < len(text):
                written += os.write(self._fd, text[written:] if written else text)
            self._note(refusing=False)
        except OSError as error:
            self._note(refusing=True, reason=str(error.strerror))
            whole = text.rfind(b"\n", 0, written) + 1
            if whole != written:
                os.ftruncate(self._fd, self.length + whole)
            written = whole
        self.length += written
        return written

    def _note(self, *, refusing: bool, reason: str = "") -> None:
        if refusing and not self._refusing:
            logger.warning("log file %s cannot be written, dropping lines until it can: %s", self.path, reason)
        elif self._refusing and not refusing:
            logger.warning("log file %s can be written again", self.path)
        self._refusing = refusing

    def has_begun(self, length: int, text: bytes) -> bool:
        """Whether the front of `text`, or all of it, is what follows the first `length` bytes."""
        begun = os.pread(self._fd, len(text), length) if self.length > length else b""
        return begun != b"" and text.startswith(begun)

    def resume(self, length: int, text: bytes) -> int:
        """After a crash: `text` was to follow the first `length` bytes, and some or all of it may be there."""
        begun = os.pread(self._fd, len(text), length) if self.length > length else b""
        if not text.startswith(begun):
            os.ftruncate(self._fd, length)
            begun = b""
        self.refresh()
        return len(begun) + self.append(text[len(begun) :])

    def reopen(self) -> None:
        """Continue in the file that is at the path now, creating it; on failure the old one stays in use."""
        fd = open_for_append(self.path)
        os.close(self._fd)
        self._fd = fd
        self.refresh()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
