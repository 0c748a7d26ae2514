"""A stack of steps that take back what was done, for operations that must leave nothing half made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_LOG = logging.getLogger(__name__)

Step = Callable[[], Awaitable[object]]


class Undo:
    """Push a step as soon as its effect can exist; `run` takes them last in, first out, whatever fails."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._steps: list[tuple[str, Step]] = []

    def push(self, name: str, step: Step) -> None:
        """Remember how to take an effect back."""
        self._steps.append((name, step))

    def keep(self) -> None:
        """Leave everything as it is: the operation is whole."""
        self._steps.clear()

    async def run(self) -> bool:
        """Take everything back; False when a step failed, which is then left to recovery."""
        clean = True
        while self._steps:
            name, step = self._steps.pop()
            try:
                async with asyncio.timeout(self._within_s):
                    await step()
            except Exception as error:
                clean = False
                _LOG.warning("could not undo %r, will try again at the next start or reconnect: %s", name, error)
        return clean
