"""Work that outlives the call which asked for it, with one owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

from cri_dockerd_py.errors import CriError

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


class Jobs:
    """Runs named jobs; two calls for the same key share one job, and a caller that goes away does not stop it."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._deserted: dict[Hashable, asyncio.Task[Any]] = {}

    async def shared(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return what the job of this key returns, starting it if it does not run."""
        job: asyncio.Task[Result] = self._under_way(key) or self._start(key, start())
        return await asyncio.shield(job)

    def spawn(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Start a job that nobody waits for, unless it runs already; its failure is logged."""
        if self._under_way(key) is None:
            self._start(key, start())

    async def finish(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run to the end even when the caller is cancelled meanwhile."""
        return await asyncio.shield(self._start(object(), coroutine))

    async def finish_or_undo(
        self,
        coroutine: Coroutine[Any, Any, Result],
        undo: Callable[[Result], Coroutine[Any, Any, object]],
        undone_within_s: float | None = None,
    ) -> Result:
        """Run to the end; if the caller is cancelled meanwhile, undo what that gave, which is waited for that long."""
        job = self._start(object(), coroutine)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait((self._start(object(), _undo(job, undo)),), timeout=undone_within_s)
            raise

    async def finish_inside(
        self, gate: AbstractAsyncContextManager[object], work: Callable[[], Coroutine[Any, Any, Result]]
    ) -> Result:
        """Wait at a gate, then run to the end: a caller that is cancelled while it waits leaves the work undone."""
        return await asyncio.shield(await self._inside(gate, work))

    async def resume_inside(
        self, key: Hashable, gate: AbstractAsyncContextManager[object], work: Callable[[], Coroutine[Any, Any, Result]]
    ) -> Result:
        """Return what the job of this key gives whose caller went away; if there is none, `finish_inside`."""
        deserted: asyncio.Task[Any] | None = self._deserted.pop(key, None)
        job: asyncio.Task[Result] = deserted or await self._inside(gate, work)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            if not job.done():
                self._deserted[key] = job
                job.add_done_callback(lambda _done: self._deserted.pop(key, None))
            raise

    async def _inside(
        self, gate: AbstractAsyncContextManager[object], work: Callable[[], Coroutine[Any, Any, Result]]
    ) -> asyncio.Task[Result]:
        async with AsyncExitStack() as waiting:
            await waiting.enter_async_context(gate)
            return self._start(object(), _holding(waiting.pop_all(), work))

    def _under_way(self, key: Hashable) -> asyncio.Task[Any] | None:
        """Return the job that runs; one that has ended does nothing more for a caller, also before `_ended` is told."""
        job = self._running.get(key)
        return None if job is None or job.done() else job

    def _start(self, key: Hashable, coroutine: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        job = asyncio.get_running_loop().create_task(coroutine, name=f"job {key}")
        self._running[key] = job
        job.add_done_callback(lambda done: self._ended(key, done))
        return job

    def _ended(self, key: Hashable, job: asyncio.Task[Any]) -> None:
        if self._running.get(key) is job:
            del self._running[key]
        if not job.cancelled() and (error := job.exception()) is not None:
            if isinstance(error, CriError):
                _LOG.debug("%s failed: %s", job.get_name(), error)
            else:
                _LOG.error("%s failed by a fault of this service", job.get_name(), exc_info=error)

    async def close(self, within_s: float) -> None:
        """Let running jobs end within the time, then cancel what is left."""
        if self._running:
            _, late = await asyncio.wait(list(self._running.values()), timeout=within_s)
            for job in late:
                job.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _holding(gates: AsyncExitStack, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    async with gates:
        return await work()


async def _undo(job: asyncio.Task[Result], undo: Callable[[Result], Coroutine[Any, Any, object]]) -> None:
    await asyncio.wait((job,))
    if not job.cancelled() and job.exception() is None:
        await undo(job.result())
