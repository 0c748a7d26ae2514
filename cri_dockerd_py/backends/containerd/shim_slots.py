"""How much a pod's shim is asked to do at once.

All containers of a pod have one shim. It hears of the ends of processes, its calls of the OCI runtime among them,
through a queue of 32, which it does not empty while it kills what a process left behind in a shared pid namespace. Once
that queue is full, it takes a second for every end (containerd 1.6 to 2.1): 40 containers would need minutes to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from enum import Enum


class Slot(Enum):
    """What slots are for; ends have their own, so that what hangs can be killed."""

    CALL = "call"
    END = "end"


_COUNTS = {Slot.CALL: 8, Slot.END: 4}


class ShimSlots:
    """`shim_of` names the shim of an object; slots exist for as long as somebody has or awaits one."""

    def __init__(self, shim_of: Callable[[str], str]) -> None:
        self._shim_of = shim_of
        self._slots: dict[tuple[str, Slot], asyncio.Semaphore] = {}
        self._users: dict[tuple[str, Slot], int] = {}

    @contextlib.asynccontextmanager
    async def hold(self, object_id: str, slot: Slot) -> AsyncIterator[None]:
        """Have a slot of an object's shim for the duration of the context."""
        key = (self._shim_of(object_id), slot)
        slots = self._slots.setdefault(key, asyncio.Semaphore(_COUNTS[slot]))
        self._users[key] = self._users.get(key, 0) + 1
        try:
            async with slots:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._slots[key]
