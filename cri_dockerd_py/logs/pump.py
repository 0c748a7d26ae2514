"""The one thread that waits for all FIFOs at once, and gives each a turn when it has something.

It wakes for a quiet container's line at once, but lets a busy one's pipe gather for a few milliseconds, so that the
work is done on large chunks. Everything that touches a log runs in this thread, so nothing needs a lock.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_QUIET_SECONDS = 0.020  # a wake-up this long after the last one is served at once
_PAUSE_MIN_SECONDS = 0.0005
_PAUSE_MAX_SECONDS = 0.010
_PIPE_FULL_ENOUGH = 0.4
_PIPE_EMPTY_ENOUGH = 0.2


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn: how full the pipe was found (1.0: full), and whether to come back at once."""

    fullness: float
    more: bool = False


class Pump:
    """An epoll loop in a thread; `submit` runs a function there between two turns."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._turns: dict[int, Callable[[], Turn]] = {}
        self._due: dict[int, None] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._pause_seconds = _PAUSE_MAX_SECONDS / 2
        self._last_round = 0.0
        self._stopping = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the turn it is in, and release what the loop holds; may be called twice."""
        if self._stopping:
            return
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join()
        self._epoll.close()
        os.close(self._wake)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run `job` in the thread."""
        future: Future[T] = Future()
        self._jobs.append(partial(_complete, future, job))
        os.eventfd_write(self._wake, 1)
        return future

    def register(self, fd: int, turn: Callable[[], Turn]) -> None:
        """Call `turn` now, and whenever more has been written to `fd` (in the thread)."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        self._turns[fd] = turn
        self._due[fd] = None

    def wake(self, fd: int) -> None:
        """Give `fd` a turn soon, whether or not there is news of it (in the thread)."""
        if fd in self._turns:
            self._due[fd] = None

    def unregister(self, fd: int) -> None:
        """Forget `fd`, before it is closed (in the thread)."""
        if self._turns.pop(fd, None) is not None:
            self._due.pop(fd, None)
            self._epoll.unregister(fd)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # a signal would cut a splice short
        while not self._stopping:
            for fd, _ in self._epoll.poll(0 if self._due else -1):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    self._due[fd] = None
            while self._jobs:
                self._jobs.popleft()()
            self._round()

    def _round(self) -> None:
        due, self._due = self._due, {}
        if not due:
            return
        fullness = 0.0
        for fd in due:
            turn = self._turns.get(fd)
            if turn is None:
                continue
            try:
                outcome = turn()
            except Exception:  # one container's trouble must not end everybody's logs
                logger.exception("a turn of descriptor %d failed", fd)
                continue
            fullness = max(fullness, outcome.fullness)
            if outcome.more and fd in self._turns:
                self._due[fd] = None
        self._gather(fullness)

    def _gather(self, fullness: float) -> None:
        """Let the pipes fill before the next look, unless this was the first sign of life for a while."""
        if fullness > _PIPE_FULL_ENOUGH:
            self._pause_seconds = max(_PAUSE_MIN_SECONDS, self._pause_seconds / 2)
        elif fullness < _PIPE_EMPTY_ENOUGH:
            self._pause_seconds = min(_PAUSE_MAX_SECONDS, self._pause_seconds * 1.25)
        now = time.monotonic()
        if now - self._last_round < _QUIET_SECONDS and not self._jobs:
            time.sleep(self._pause_seconds)
            now += self._pause_seconds
        self._last_round = now


def _complete(future: Future[T], job: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:  # whoever awaits the future gets it
        future.set_exception(error)
