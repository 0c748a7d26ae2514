"""Exit codes of exec'd processes as Docker's event stream tells them, which saves a call for each."""

from __future__ import annotations

import asyncio


class ExecExits:
    """Maps the ids of execs that somebody waits for to futures; an event that never comes is no harm."""

    def __init__(self) -> None:
        self._expected: dict[str, asyncio.Future[int]] = {}

    def expect(self, exec_id: str) -> asyncio.Future[int]:
        """Return the future that gets the exit code, if it is told; until `forget` it is always the same one."""
        if (future := self._expected.get(exec_id)) is None:
            future = self._expected[exec_id] = asyncio.get_running_loop().create_future()
        return future

    def told(self, exec_id: str, exit_code: int) -> None:
        """An exec has ended."""
        future = self._expected.get(exec_id)
        if future is not None and not future.done():
            future.set_result(exit_code)

    def forget(self, exec_id: str) -> None:
        """Nobody waits any more."""
        self._expected.pop(exec_id, None)
