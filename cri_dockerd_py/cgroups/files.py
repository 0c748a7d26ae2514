"""Reading the kernel's small text files: a file that is gone or refused reads as None, never as an error."""

from __future__ import annotations

import os

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
