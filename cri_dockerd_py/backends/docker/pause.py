"""The image that sandboxes are made of: built in and loaded, or a configured one and pulled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.image_pull import Pulls
from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.model.image_ref import parse_reference

_LOG = logging.getLogger(__name__)
_LOAD_WITHIN_S = 60.0


class PauseImage:
    """`load_tar` gives the image as `docker save` would; None where the image is to be pulled."""

    def __init__(self, client: DockerClient, pulls: Pulls, name: str, load_tar: Callable[[], bytes] | None) -> None:
        self._client = client
        self._reference = parse_reference(name)
        self._load_tar = load_tar
        self._pulls = pulls
        self._present = False
        self._ensuring = asyncio.Lock()

    @property
    def name(self) -> str:
        """The image as Docker names it."""
        return self._reference.familiar

    async def ensure(self, *, anew: bool = False) -> None:
        """Return when the image is there; `anew` when it has turned out to be missing."""
        async with self._ensuring:
            if self._present and not anew:
                return
            if not await self._is_there():
                await self._fetch()
            self._present = True

    async def _is_there(self) -> bool:
        try:
            await self._client.get("/images/{}/json", self.name)
        except NotFound:
            return False
        return True

    async def _fetch(self) -> None:
        if self._load_tar is None:
            _LOG.info("pulling the pause image %s", self.name)
            await self._pulls.pull(self._reference, None)
            return
        _LOG.info("loading the built-in pause image %s", self.name)
        content = await asyncio.to_thread(self._load_tar)
        await self._client.upload("/images/load", content, content_type="application/x-tar", within_s=_LOAD_WITHIN_S)
        if not await self._is_there():
            raise FailedPrecondition(f"Docker has loaded the pause image, and yet does not have {self.name}")
