"""Where containers' output goes: to a log driver of ours, or to Docker's own files with dockershim's links to them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, ClassVar

from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.logs.json_file import link_json_log, unlink_json_log

DISCARD: Mapping[str, Any] = {"Type": "none", "Config": {}}


class ContainerLogs(ABC):
    """What containers' life has to do with their logs; `makes_links` says that `removed` needs the log path."""

    makes_links: ClassVar[bool] = False

    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """Return HostConfig.LogConfig of a container that has a log path."""

    @abstractmethod
    async def started(self, log_path: str, docker_path: str) -> None:
        """A container runs, or failed to; Docker writes `docker_path`, if it is known."""

    @abstractmethod
    async def reopen(self, container_id: str) -> None:
        """Go on in a new file."""

    @abstractmethod
    async def removed(self, container_id: str, log_path: str) -> None:
        """A container is gone; its log stays."""

    @abstractmethod
    async def keep_only(self, container_ids: Collection[str]) -> None:
        """Forget containers that are not among these: they went while nobody looked."""


class DriverLogs(ContainerLogs):
    """CRI log files, written by this service's log driver."""

    def __init__(
        self,
        config: Mapping[str, Any],
        reopen: Callable[[str], Awaitable[None]],
        forget: Callable[[str], Awaitable[None]],
        known: Callable[[], Collection[str]],
    ) -> None:
        self._known = known
        self._config = config
        self._reopen = reopen
        self._forget = forget

    def config(self) -> Mapping[str, Any]:
        """Return the driver's name and options."""
        return self._config

    async def started(self, log_path: str, docker_path: str) -> None:
        """Link what a container of another shim writes; ours has its file already."""
        if docker_path:
            await asyncio.to_thread(link_json_log, log_path, docker_path)

    async def reopen(self, container_id: str) -> None:
        """Rotate."""
        try:
            await self._reopen(container_id)
        except NotFound as error:
            raise FailedPrecondition(
                f"the log of container {container_id} is not written by this service: Docker rotates it itself"
            ) from error

    async def removed(self, container_id: str, log_path: str) -> None:
        """Let the driver forget the container."""
        await self._forget(container_id)

    async def keep_only(self, container_ids: Collection[str]) -> None:
        """Let the driver forget the others."""
        for container_id in [known for known in self._known() if known not in container_ids]:
            await self._forget(container_id)


class JsonFileLogs(ContainerLogs):
    """Docker's json-file driver, and links to its files at the log paths."""

    makes_links: ClassVar[bool] = True

    def config(self) -> Mapping[str, Any]:
        """Return the driver's name; its options come from Docker's daemon.json only if it is the default there."""
        return {"Type": "json-file", "Config": {}}

    async def started(self, log_path: str, docker_path: str) -> None:
        """Make the link."""
        await asyncio.to_thread(link_json_log, log_path, docker_path)

    async def reopen(self, container_id: str) -> None:
        """Docker cannot."""
        raise FailedPrecondition(
            f"the log of container {container_id} cannot be reopened: with container_log_format json-file Docker "
            f"rotates logs itself (max-size and max-file in its daemon.json)"
        )

    async def removed(self, container_id: str, log_path: str) -> None:
        """Remove the link, which leads nowhere now."""
        await asyncio.to_thread(unlink_json_log, log_path)

    async def keep_only(self, container_ids: Collection[str]) -> None:
        """Docker looks after its own files."""
