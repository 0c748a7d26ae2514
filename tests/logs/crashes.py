"""Kills a process at its n-th file operation: before it, halfway through it, or right after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

Moment = Literal["before", "halfway", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "halfway", "after")
KILLED = 77
_WATCHED = ("splice", "write", "pwrite", "ftruncate", "open", "replace", "fchmod", "unlink", "rename")


_UNCUT_BYTES = 256  # the kernel looks for a kill between pages only


def run_and_kill(work: Callable[[], None], operation: int, moment: Moment) -> bool:
    """Run `work` in a child that dies at the given file operation; answer whether it got there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _arm(operation, moment)
            work()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, KILLED):
        raise AssertionError(f"the child failed at operation {operation}, {moment}")
    return status == KILLED


def _arm(operation: int, moment: Moment) -> None:
    left = [operation]
    for name in _WATCHED:
        setattr(os, name, _deadly(name, getattr(os, name), left, moment))


def _deadly(name: str, real: Callable[..., Any], left: list[int], moment: Moment) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] != 0:
            return real(*args, **kwargs)
        if moment == "after":
            real(*args, **kwargs)
        elif moment == "halfway" and name in ("write", "pwrite") and len(args[1]) > _UNCUT_BYTES:
            real(args[0], args[1][: len(args[1]) // 2], *args[2:])
        elif moment == "halfway" and name == "splice":
            real(args[0], args[1], args[2] // 2, *args[3:])
        os._exit(KILLED)

    return call
