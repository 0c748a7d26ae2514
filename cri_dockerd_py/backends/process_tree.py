"""Kills a process and everything that it started in its session or below it, as seen from the host."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

_ROUNDS = 10


class Process(NamedTuple):
    """What /proc tells of a process's place."""

    pid: int
    parent: int
    session: int


def kill_tree(root_pid: int) -> None:
    """Stop the whole tree first, so that nothing is born while it is looked at, then SIGKILL all of it."""
    if root_pid <= 1:
        return
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        fresh = _members(root_pid, stopped) - stopped
        if not fresh:
            break
        _signal(fresh, signal.SIGSTOP)
        stopped |= fresh
    _signal(stopped, signal.SIGKILL)


def _members(root_pid: int, known: set[int]) -> set[int]:
    """Return the root, its session where it leads one, and all descendants of those."""
    present = list(processes())
    members = {process.pid for process in present if root_pid in (process.pid, process.session)}
    members |= known & {process.pid for process in present}
    grown = True
    while grown:
        children = {process.pid for process in present if process.parent in members} - members
        members |= children
        grown = bool(children)
    return members


def processes() -> Iterator[Process]:
    """Yield all processes; those that end meanwhile are left out."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > 3:
            yield Process(int(name), int(fields[1]), int(fields[3]))


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
