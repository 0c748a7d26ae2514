"""Containers that are made to look into an image whose layers only Docker can read; they are never started."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.network.settle import settle_call

#: Whose it is; pods' containers do not have it.
OWNER_LABEL = "cri-dockerd-py.look-owner"
_NAME = "cri-dockerd-py-look-"
_REMOVED_WITH = {"force": "1", "v": "1"}

T = TypeVar("T")


class ImageLooks:
    """`owner` is the same after a restart of this service, and no other service's on this Docker."""

    def __init__(self, client: DockerClient, owner: str) -> None:
        self._client = client
        self._owner = owner
        self._in_use: set[str] = set()

    async def look(self, image_id: str, look: Callable[[str], Awaitable[T]]) -> T:
        """Call `look` with the id of a container of the image, which is removed whatever happens to the caller."""
        return await settle_call(self._look(image_id, look), "look into an image")

    async def sweep(self) -> None:
        """Remove what looks that were killed have left: it keeps images from being removed."""
        filters = json.dumps({"label": [f"{OWNER_LABEL}={self._owner}"]})
        found = await self._client.get("/containers/json", params={"all": "1", "filters": filters})
        for container in found:
            if not self._in_use.intersection(name.removeprefix("/") for name in container.get("Names") or ()):
                await self._remove(str(container["Id"]))

    async def _look(self, image_id: str, look: Callable[[str], Awaitable[T]]) -> T:
        name = f"{_NAME}{uuid.uuid4().hex}"
        body = {
            "Image": image_id,
            "Entrypoint": ["-"],
            "Labels": {OWNER_LABEL: self._owner},
            "HostConfig": {"NetworkMode": "none"},
        }
        self._in_use.add(name)
        try:
            created = await self._client.post("/containers/create", params={"name": name}, body=body)
            try:
                return await look(str(created["Id"]))
            finally:
                await self._remove(str(created["Id"]))
        finally:
            self._in_use.discard(name)

    async def _remove(self, container_id: str) -> None:
        """Remove a container; one that is gone, or is being removed, is fine."""
        with contextlib.suppress(NotFound, FailedPrecondition):
            await self._client.delete("/containers/{}", container_id, params=_REMOVED_WITH)
