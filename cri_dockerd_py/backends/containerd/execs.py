"""Processes that were executed in containers and whose end is awaited: events tell of it, nobody polls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from cri_dockerd_py.backends.containerd.tasks import UNKNOWN_EXIT_CODE, Tasks, TaskState
from cri_dockerd_py.errors import CriError

_LOG = logging.getLogger(__name__)
_ASK_WITHIN_S = 5.0
_ASK_AGAIN_S = 10.0
#: How much later than its container's end that of an exec may be told.
_LATE_NEWS_WITHIN_S = 5.0


class Execs:
    """Maps exec ids to futures of exit codes."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._awaited: dict[str, tuple[str, asyncio.Future[int]]] = {}

    def expect(self, container_id: str, exec_id: str) -> asyncio.Future[int]:
        """Return a future that gets the exit code; it has to be asked for before the process is started."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._awaited[exec_id] = (container_id, future)
        return future

    def ended(self, exec_id: str, exit_code: int) -> None:
        """A process has ended; one that nobody waits for is no news."""
        awaited = self._awaited.pop(exec_id, None)
        if awaited is not None and not awaited[1].done():
            awaited[1].set_result(exit_code)

    def container_ended(self, container_id: str) -> None:
        """Nothing runs in a container any more; a shim that died with it does not tell of the ends of execs."""
        left = [exec_id for exec_id, (owner, _) in self._awaited.items() if owner == container_id]
        if left:
            asyncio.get_running_loop().call_later(_LATE_NEWS_WITHIN_S, self._lost, left)

    def _lost(self, exec_ids: Sequence[str]) -> None:
        for exec_id in exec_ids:
            self.ended(exec_id, UNKNOWN_EXIT_CODE)

    def forget(self, exec_id: str) -> None:
        """Nobody waits any more."""
        self._awaited.pop(exec_id, None)

    async def reconcile(self) -> None:
        """Ask about every process whose end may have been missed, because the event stream was away.

        A shim that hangs holds nobody else up: it is asked again until it answers.
        """
        left = list(self._awaited)
        while True:
            known = await asyncio.gather(*(self._ask(exec_id) for exec_id in left))
            left = [exec_id for exec_id, is_known in zip(left, known, strict=True) if not is_known]
            if not left:
                return
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _ask(self, exec_id: str) -> bool:
        """Return whether it is known how a process fares."""
        if exec_id not in self._awaited:
            return True
        container_id = self._awaited[exec_id][0]
        try:
            async with asyncio.timeout(_ASK_WITHIN_S):
                state = await self._tasks.exec_state(container_id, exec_id)
        except (CriError, TimeoutError) as error:
            _LOG.warning("exec %s in container %s: asked in vain, will try again: %r", exec_id, container_id, error)
            return False
        if state is None:
            self.ended(exec_id, UNKNOWN_EXIT_CODE)
        elif state.state is TaskState.STOPPED:
            self.ended(exec_id, state.exit_code)
        return state is None or state.state is not TaskState.UNKNOWN
