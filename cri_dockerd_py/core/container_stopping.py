"""Ending a running container: its stop signal, the grace period, SIGKILL, and the wait for its end."""

from __future__ import annotations

import signal
import time

from cri_dockerd_py.core.engines import Side
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.signals import signal_number

#: A container of which nothing is known may well have a process.
LIVE_STATES = frozenset({ContainerState.RUNNING, ContainerState.UNKNOWN})
_KILL_WITHIN_S = 30.0
_LOOK_AGAIN_S = 2.0


class ContainerStopping:
    """Remembers whom it has asked to stop until they are gone."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._asked: set[str] = set()
        inventory.on_container.append(self._forget_gone)

    def _forget_gone(self, old: ContainerRecord | None, new: ContainerRecord | None) -> None:
        if old is not None and new is None:
            self._asked.discard(old.id)

    async def stop(self, side: Side, record: ContainerRecord, timeout_s: int) -> None:
        """Return when the container has ended; FailedPrecondition when not even SIGKILL ends it (STO-01 to STO-07)."""
        side.health.require()
        if timeout_s > 0:
            await self._ask(side, record)
            if await self._ended(side, record.id, timeout_s):
                return
        await side.health.guard(side.engine.containers.signal(record.id, signal.SIGKILL))
        if await self._is_gone(side, record.id):  # an engine may be done with it before it says so
            return
        if not await self._ended(side, record.id, _KILL_WITHIN_S):
            raise FailedPrecondition(
                f"container {record.id} has not ended {_KILL_WITHIN_S:.0f} s after SIGKILL; "
                f"its process is stuck in the kernel (see /proc/{record.pid}/stack), try again"
            )

    async def _ask(self, side: Side, record: ContainerRecord) -> None:
        """Send the stop signal once per container, however many stops overlap (STO-06)."""
        if record.id in self._asked:
            return
        self._asked.add(record.id)
        try:
            await side.health.guard(side.engine.containers.signal(record.id, signal_number(record.stop_signal)))
        except BaseException:
            self._asked.discard(record.id)
            raise

    async def _ended(self, side: Side, container_id: str, within_s: float) -> bool:
        """Wait for the exit event, and look for oneself now and then in case an event was lost."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            if await self._inventory.wait_ended(container_id, min(left, _LOOK_AGAIN_S)):
                return True
            if await self._is_gone(side, container_id):
                return True
        return False

    async def _is_gone(self, side: Side, container_id: str) -> bool:
        """Look at a container, and take note when it has ended; return whether there is none any more."""
        known = self._inventory.containers.get(container_id)
        if known is None or known.state is ContainerState.EXITED:
            return known is None
        seen = await side.health.guard(side.engine.containers.inspect(container_id))
        if seen is not None and seen.state is ContainerState.EXITED:
            oom_killed = seen.reason == "OOMKilled"
            self._inventory.mark_exited(container_id, seen.exit_code, seen.finished_at_ns, oom_killed=oom_killed)
        return seen is None
