"""Reading the kernel's small text files: a file that is gone or refused reads as None, never as an error."""

from __future__ import annotations

import os
from collections.abc import Iterable

_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_CHUNK_BYTES = 16 * 1024


def read_once(path: str) -> bytes | None:
    """Return a file whose text the kernel makes in one piece (all of a cgroup's but `cgroup.procs`)."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_all(path: str, limit_bytes: int = 4 * 1024 * 1024) -> bytes | None:
    """Return a file of any length, up to the limit."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        chunks: list[bytes] = []
        length = 0
        while length < limit_bytes and (chunk := os.read(descriptor, _CHUNK_BYTES)):
            chunks.append(chunk)
            length += len(chunk)
        return b"".join(chunks)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_number(path: str) -> int | None:
    """Return the number that a file holds; None when it is absent, says `max`, or anything else."""
    data = read_once(path)
    try:
        return int(data) if data else None
    except ValueError:
        return None


class KeptFile:
    """A file that is read again and again: it stays open, for opening costs several times a read.

    An open file of a removed cgroup answers with an error, so nothing stale is read, and it holds nothing up.
    """

    __slots__ = ("_absent", "_descriptor", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._absent = False

    def read(self) -> bytes | None:
        """Return what the file says now; None when it is gone or was never there."""
        if self._descriptor < 0 and not self._open():
            return None
        try:
            return os.pread(self._descriptor, _CHUNK_BYTES, 0)
        except OSError:
            self._absent = True
            self.close()
            return None

    def number(self) -> int | None:
        """Return the number that the file holds now; None as for `read_number`."""
        data = self.read()
        try:
            return int(data) if data else None
        except ValueError:
            return None

    def _open(self) -> bool:
        if self._absent:
            return False
        try:
            self._descriptor = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            self._absent = True
            return False
        except OSError:
            return False
        return True

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._descriptor >= 0

    def close(self) -> None:
        """Give the descriptor back; the next read opens anew."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


def close_all(files: Iterable[KeptFile]) -> None:
    """Give all descriptors back."""
    for file in files:
        file.close()
