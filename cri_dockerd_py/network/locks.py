"""One network operation at a time on a pod, in this process and across a crash of it.

Plugins inherit the lock file's descriptor. When this process dies in the middle of an ADD, the plugin lives on and
with it the lock: the next process waits for its end before DEL, so nothing is allocated after it was released.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from cri_dockerd_py.errors import Internal

_log = logging.getLogger(__name__)

_POLL_S = 0.05
_LEFTOVER_S = 30.0


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class PodLocks:
    """Locks by sandbox id; a file each in `directory`, which should not outlive a reboot."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turns: dict[str, _Turn] = {}

    @contextlib.asynccontextmanager
    async def hold(self, sandbox_id: str, *, forget: bool = False) -> AsyncIterator[int]:
        """Hold a pod's lock and yield the descriptor for plugins; `forget` removes the file afterwards."""
        turn = self._turns.setdefault(sandbox_id, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                path = self._directory / sandbox_id
                fd = self._open(path)
                try:
                    await _wait_for_leftover(fd, sandbox_id)
                    yield fd
                    if forget:
                        with contextlib.suppress(FileNotFoundError):
                            path.unlink()
                finally:
                    fcntl.flock(fd, fcntl.LOCK_UN)  # also for whatever plugins have left running
                    os.close(fd)
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[sandbox_id]

    def _open(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)
        except OSError as error:
            raise Internal(f"cannot lock the network of sandbox {path.name}: {error}") from error


async def _wait_for_leftover(fd: int, sandbox_id: str) -> None:
    """Take the file lock; a plugin of an earlier process may hold it, but not for ever: it may have left a daemon."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LEFTOVER_S
    waiting = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
        else:
            return
        if not waiting:
            waiting = True
            _log.warning("waiting for a CNI plugin of an earlier run that still works on sandbox %s", sandbox_id)
        if loop.time() >= deadline:
            _log.warning("going on with sandbox %s although something of an earlier run still runs", sandbox_id)
            return
        await asyncio.sleep(_POLL_S)
