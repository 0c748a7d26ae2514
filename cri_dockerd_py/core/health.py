"""Whether an engine answers: writes fail fast while it does not, and those under way are let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cri_dockerd_py.errors import Unavailable

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


class EngineHealth:
    """The last word on one engine; `reason` says why it is not ready."""

    def __init__(self, engine_name: str) -> None:
        self.engine_name = engine_name
        self.ready = False
        self.reason = "not connected yet"
        #: When it was last found to be ready or away, in seconds since the epoch.
        self.since_s = time.time()
        #: Called when `ready` or `reason` is another one.
        self.on_change: list[Callable[[], None]] = []
        self._lost: asyncio.Future[None] | None = None
        self._looked = asyncio.Event()

    def up(self) -> None:
        """The engine answers and what is known of it is whole."""
        if not self.ready:
            _LOG.info("%s is ready", self.engine_name)
        self._put(ready=True, reason="")

    def down(self, reason: str) -> None:
        """The engine is away; every guarded call under way ends with Unavailable."""
        if self.ready:
            _LOG.warning("%s is away, writes are refused until it is back: %s", self.engine_name, reason)
        self._put(ready=False, reason=reason)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self._lost = None

    def _put(self, *, ready: bool, reason: str) -> None:
        before = (self.ready, self.reason)
        if ready is not self.ready:
            self.since_s = time.time()
        self.ready, self.reason = ready, reason
        self._looked.set()
        if before != (ready, reason):
            for listener in self.on_change:
                listener()

    async def wait_ready(self, within_s: float) -> bool:
        """Return whether the engine is ready once it has been looked at, which is waited for no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._looked.wait()
        return self.ready

    def require(self) -> None:
        """Raise Unavailable unless the engine answers."""
        if not self.ready:
            raise self._unavailable()

    async def guard(self, call: Awaitable[Result]) -> Result:
        """Return what `call` returns, or raise Unavailable as soon as the engine is known to be away."""
        job = asyncio.ensure_future(call)
        if not self.ready:
            job.cancel()
            raise self._unavailable()
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((job, self._lost), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            job.cancel()
            await asyncio.wait((job,))
            raise
        if job.done():
            return job.result()
        job.cancel()
        await asyncio.wait((job,))
        raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            f"{self.engine_name} cannot be reached ({self.reason}); running containers go on, "
            f"and this call works again once it is back"
        )
