"""What is being made, or started, under a name: seen to its end whatever happens to the caller, once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
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
        return await self.join(name, lambda: making)

    async def join(self, name: str, make: Callable[[], Coroutine[Any, Any, Made]]) -> Made:
        """Return what is made under the name: by the job that runs, or by a new one that is run to its end."""
        job = self._jobs.get(name) or self._begin(name, make())
        return await asyncio.shield(job)

    def _begin(self, name: str, making: Coroutine[Any, Any, Made]) -> asyncio.Task[Made]:
        job = asyncio.get_running_loop().create_task(making, name=f"making {name}")
        self._jobs[name] = job
        job.add_done_callback(lambda done: self._done(name, done))
        return job

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
