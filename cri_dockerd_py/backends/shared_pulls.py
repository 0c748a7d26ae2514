"""Pulls of one reference that several callers wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cri_dockerd_py.model.image import RegistryAuth

_Key = tuple[str, RegistryAuth | None]


class _SharedPull:
    """Goes on for as long as somebody waits for it."""

    def __init__(self, job: asyncio.Task[str]) -> None:
        self.job = job
        self._waiting = 0

    async def wait(self) -> str:
        self._waiting += 1
        try:
            return await asyncio.shield(self.job)
        finally:
            self._waiting -= 1
            if not self._waiting and not self.job.done():
                self.job.cancel()
                await asyncio.wait((self.job,))


class SharedPulls:
    """Merges pulls of the same reference with the same credentials; one that was cancelled leaves the others alone.

    The last caller to leave stops the transfer (IMG-34, IMG-35).
    """

    def __init__(self, pull: Callable[[str, RegistryAuth | None], Awaitable[str]]) -> None:
        self._pull = pull
        self._running: dict[_Key, _SharedPull] = {}

    async def pull(self, image: str, auth: RegistryAuth | None) -> str:
        """Return the image's id once it is pulled."""
        key = (image, auth)
        shared = self._running.get(key)
        if shared is None or shared.job.done() or shared.job.cancelling():
            shared = self._running[key] = _SharedPull(self._start(image, auth))
            shared.job.add_done_callback(lambda job: self._forget(key, job))
        return await shared.wait()

    def _start(self, image: str, auth: RegistryAuth | None) -> asyncio.Task[str]:
        async def run() -> str:
            return await self._pull(image, auth)

        return asyncio.get_running_loop().create_task(run(), name=f"pull {image}")

    def _forget(self, key: _Key, job: asyncio.Task[str]) -> None:
        if key in self._running and self._running[key].job is job:
            del self._running[key]
        if not job.cancelled():
            job.exception()  # whoever waited has it
