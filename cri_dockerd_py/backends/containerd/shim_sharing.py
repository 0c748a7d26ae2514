"""Lets containerd 2 use a pod's shim for a new container without asking the shim's program for it, which takes a while.

It does so only while the pod is in its sandbox store. A record there is seen by containerd's CRI plugin when that
starts, which then takes the pod for its own; so ours is there only while a container is being started, and never where
the plugin is enabled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from cri_dockerd_py._generated.containerd_v1.sandboxes_pb2 import (
    StoreCreateRequest,
    StoreDeleteRequest,
    StoreListRequest,
)
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Sandbox
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.objects import Objects
from cri_dockerd_py.errors import AlreadyExists, CriError, NotFound, Unimplemented

_LOG = logging.getLogger(__name__)
_LABEL = "io.cri-dockerd-py.shim-sharing"
_SANDBOXER = "podsandbox"
_SINCE = 2


class ShimSharing:
    """`version` is containerd's, to be set by whoever asks it."""

    def __init__(self, client: ContainerdClient, objects: Objects) -> None:
        self.version = ""
        self._client = client
        self._objects = objects
        self._users: dict[str, int] = {}
        self._ready: dict[str, asyncio.Task[bool]] = {}
        self._removals: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def of(self, sandbox_id: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Let a pod's shim be shared as long as the context lasts, from when the function that it gives has returned.

        Where that is impossible, nothing is different.
        """
        if not self._is_of_use():
            yield _at_once
            return
        self._users[sandbox_id] = self._users.get(sandbox_id, 0) + 1
        job = self._job(sandbox_id)
        try:
            yield partial(_wait_for, job)
        finally:
            self._users[sandbox_id] -= 1
            if not self._users[sandbox_id]:
                del self._users[sandbox_id]
                self._remove_soon(sandbox_id)

    def _is_of_use(self) -> bool:
        major = self.version.partition(".")[0]
        return major.isdecimal() and int(major) >= _SINCE and not self._objects.plugin_is_enabled

    def _job(self, sandbox_id: str) -> asyncio.Task[bool]:
        job = self._ready.get(sandbox_id)
        if job is None:
            loop = asyncio.get_running_loop()
            job = loop.create_task(self._create(sandbox_id), name=f"sandbox record of {sandbox_id}")
            self._ready[sandbox_id] = job
        return job

    async def _create(self, sandbox_id: str) -> bool:
        """Make the record, and return whether it is ours to remove."""
        if (removal := self._removals.get(sandbox_id)) is not None:
            await asyncio.wait((removal,))
        held = self._objects.held.get(sandbox_id)
        if held is None:
            return False
        record = Sandbox(
            sandbox_id=sandbox_id,
            runtime=Sandbox.Runtime(name=held.runtime),
            labels={_LABEL: "1"},
            sandboxer=_SANDBOXER,
        )
        try:
            await self._client.call(self._client.sandboxes.Create, StoreCreateRequest(sandbox=record))
        except (AlreadyExists, Unimplemented):
            return False
        except CriError as error:
            _LOG.debug("containers of pod %s start more slowly: %s", sandbox_id, error)
            return False
        return True

    def _remove_soon(self, sandbox_id: str) -> None:
        made = self._ready.pop(sandbox_id, None)
        if made is None:
            return
        removal = asyncio.get_running_loop().create_task(
            self._remove(sandbox_id, made), name=f"sandbox record of {sandbox_id} goes"
        )
        self._removals[sandbox_id] = removal
        removal.add_done_callback(lambda _done: self._removals.pop(sandbox_id, None))

    async def _remove(self, sandbox_id: str, made: asyncio.Task[bool]) -> None:
        try:
            if await made:
                await self._delete(sandbox_id)
        except CriError as error:
            _LOG.warning("the sandbox record of pod %s is still there, will try again: %s", sandbox_id, error)

    async def _delete(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotFound):
            await self._client.call(self._client.sandboxes.Delete, StoreDeleteRequest(sandbox_id=sandbox_id))

    async def sweep(self) -> None:
        """Remove what a crash has left of our records."""
        try:
            request = StoreListRequest(filters=[f'labels."{_LABEL}"'])
            records = (await self._client.call(self._client.sandboxes.List, request)).list
        except Unimplemented:
            return
        for record in records:
            if record.labels.get(_LABEL) and record.sandbox_id not in self._users:
                await self._delete(record.sandbox_id)

    async def close(self) -> None:
        """Wait for what is being removed."""
        if self._removals:
            await asyncio.wait(list(self._removals.values()))


async def _at_once() -> None:
    """Nothing has to be waited for."""


async def _wait_for(job: asyncio.Task[bool]) -> None:
    await asyncio.shield(job)
