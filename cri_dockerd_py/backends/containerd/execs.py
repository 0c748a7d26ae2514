"""Processes that were executed in containers and whose end is awaited: events tell of it, nobody polls."""

from __future__ import annotations

import asyncio

from cri_dockerd_py.backends.containerd.tasks import UNKNOWN_EXIT_CODE, Tasks, TaskState


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

    def forget(self, exec_id: str) -> None:
        """Nobody waits any more."""
        self._awaited.pop(exec_id, None)

    async def reconcile(self) -> None:
        """Ask about every process whose end may have been missed, because the event stream was away."""
        for exec_id, (container_id, _) in list(self._awaited.items()):
            state = await self._tasks.exec_state(container_id, exec_id)
            if state is None:
                self.ended(exec_id, UNKNOWN_EXIT_CODE)
            elif state.state is TaskState.STOPPED:
                self.ended(exec_id, state.exit_code)
