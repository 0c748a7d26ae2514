"""What is being made under a name: seen to its end whatever happens to the caller, and once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from cri_dockerd_py.errors import AlreadyExists

Made = TypeVar("Made")


class Makings:
    """A job for each name under which something is being made."""

    def __init__(self) -> None:
        self._jobs: dict[str, asyncio.Task[Any]] = {}

    async def run(self, name: str, making: Coroutine[Any, Any, Made]) -> Made:
        """Run `making` to its end, and return what it made; AlreadyExists while another one has the name."""
        if name in self._jobs:
            making.close()
            raise AlreadyExists(f"{name} is being made already")
        job = asyncio.get_running_loop().create_task(making, name=f"making {name}")
        self._jobs[name] = job
        job.add_done_callback(lambda done: self._done(name, done))
        return await asyncio.shield(job)

    def _done(self, name: str, job: asyncio.Task[Any]) -> None:
        self._jobs.pop(name, None)
        if not job.cancelled():
            job.exception()  # whoever waited has it; a job that nobody waits for any more must not complain

    async def ended(self, name: str) -> None:
        """Return when nothing is being made under the name."""
        job = self._jobs.get(name)
        if job is not None:
            await asyncio.wait((job,))

    async def close(self) -> None:
        """Wait for all that is being made."""
        if self._jobs:
            await asyncio.wait(list(self._jobs.values()))
