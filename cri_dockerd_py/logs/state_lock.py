"""Only one process at a time may go on with a log state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cri_dockerd_py.errors import FailedPrecondition


class StateLock:
    """The lock file in a state directory; it is let go by the kernel when its holder dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._fd >= 0

    def take(self) -> None:
        """Make the directory where it is missing, and lock it; FailedPrecondition when another process has it."""
        self._directory.mkdir(0o700, parents=True, exist_ok=True)
        fd = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise FailedPrecondition(
                f"another process uses the log state directory {self._directory}; stop it or set another directory"
            ) from error
        self._fd = fd

    def release(self) -> None:
        """Let go of the lock; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
