"""Hears of OOM kills from the kernel itself: Docker misses those that come right after a container's start (CST-07)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from pathlib import Path

from cri_dockerd_py.backends.docker.marks import Marks

_LOG = logging.getLogger(__name__)
_KERNEL_LOG = Path("/dev/kmsg")
_PROC = Path("/proc")
_RECORD_BYTES = 8192
_RECORDS_AT_ONCE = 200
#: Says whose cgroup it was, but not of every kill when there are many at once.
_OOM_IN = re.compile(rb"oom-kill:.*task_memcg=([^,\n]*),task=.*,pid=(\d+)")
#: Comes for every kill.
_KILLED = re.compile(rb"Memory cgroup out of memory: Killed process (\d+)")
_ID = re.compile(r"[0-9a-f]{64}")


class OomWatch:
    """Tells `marks` of kills; where the kernel's log cannot be read, of none."""

    def __init__(self, marks: Marks, kernel_log: Path = _KERNEL_LOG, proc: Path = _PROC) -> None:
        self._marks = marks
        self._told_pid = b""
        self._kernel_log = kernel_log
        self._proc = proc
        self._fd = -1

    def start(self) -> None:
        """Begin at the log's end."""
        try:
            self._fd = os.open(self._kernel_log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            _LOG.warning("the kernel's log cannot be read, so OOM kills are known from Docker alone: %s", error)
            self.close()
            return
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def close(self) -> None:
        """Stop; may be called twice."""
        if self._fd >= 0:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        """Read what is there, but not so much at once that others wait."""
        for _ in range(_RECORDS_AT_ONCE):
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BrokenPipeError:
                continue  # the kernel has overwritten what was not read in time
            except OSError:
                return
            if b"ill" in record:
                self.take(record)

    def take(self, record: bytes) -> None:
        """Look at one record of the log."""
        if match := _OOM_IN.search(record):
            self._told_pid = match[2]
            self._tell(match[1].decode("ascii", "replace"))
            return
        match = _KILLED.search(record)
        if match and match[1] != self._told_pid and not self._tell(self._cgroup_of(match[1].decode())):
            self._marks.note_unexplained_oom(time.time_ns())

    def _cgroup_of(self, pid: str) -> str:
        """Return the victim's cgroup, which it leaves as it dies: with luck it is still there."""
        try:
            return (self._proc / pid / "cgroup").read_text()
        except OSError:
            return ""

    def _tell(self, cgroup: str) -> bool:
        found = dict.fromkeys(_ID.findall(cgroup))
        for container_id in found:
            self._marks.note_oom(container_id)
        return bool(found)
