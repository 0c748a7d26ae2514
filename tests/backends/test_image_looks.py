"""Containers for a look into an image: none is left, whatever happens to who looks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from cri_dockerd_py.backends.docker.image_looks import OWNER_LABEL, ImageLooks
from cri_dockerd_py.errors import NotFound
from tests import images
from tests.backends.conftest import opened
from tests.engines import DockerEngine


class _Docker:
    """Keeps containers; to make one waits for `may_make`."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.asked = asyncio.Event()
        self.may_make = asyncio.Event()

    async def post(self, template: str, *, params: dict[str, str], body: dict[str, Any]) -> dict[str, str]:
        assert template == "/containers/create"
        self.asked.set()
        await self.may_make.wait()
        name = params["name"]
        self.containers[name] = {"Id": name, "Names": [f"/{name}"], "Labels": body["Labels"]}
        return {"Id": name}

    async def get(self, template: str, *, params: dict[str, str]) -> list[dict[str, Any]]:
        (label,) = json.loads(params["filters"])["label"]
        key, _, value = label.partition("=")
        return [one for one in self.containers.values() if one["Labels"].get(key) == value]

    async def delete(self, template: str, container_id: str, *, params: dict[str, str]) -> None:
        if self.containers.pop(container_id, None) is None:
            raise NotFound(container_id)


async def test_a_look_that_is_given_up_leaves_no_container() -> None:
    docker: Any = _Docker()
    looks = ImageLooks(docker, "me")
    seen: list[str] = []

    async def look(container_id: str) -> None:
        seen.append(container_id)

    job = asyncio.ensure_future(looks.look("sha256:1", look))
    await docker.asked.wait()
    job.cancel()
    await asyncio.sleep(0)
    docker.may_make.set()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert len(seen) == 1
    assert docker.containers == {}


async def test_what_is_in_use_is_not_swept() -> None:
    docker: Any = _Docker()
    docker.may_make.set()
    looks = ImageLooks(docker, "me")
    docker.containers["old"] = {"Id": "old", "Names": ["/old"], "Labels": {OWNER_LABEL: "me"}}
    docker.containers["other"] = {"Id": "other", "Names": ["/other"], "Labels": {OWNER_LABEL: "other"}}

    async def look(container_id: str) -> set[str]:
        await looks.sweep()
        return set(docker.containers) - {container_id}

    assert await looks.look("sha256:1", look) == {"other"}
    assert set(docker.containers) == {"other"}


async def test_what_a_killed_service_left_is_removed(docker_engine: DockerEngine, tmp_path: Path) -> None:
    api = docker_engine.client.api
    ours, foreign = (
        api.create_container(images.BUSYBOX, ["-"], labels={OWNER_LABEL: str(owner)})["Id"]
        for owner in (tmp_path / "state", tmp_path / "other")
    )
    try:
        async with opened(docker_engine, tmp_path):
            left = {container["Id"] for container in api.containers(all=True)}
        assert foreign in left
        assert ours not in left
    finally:
        for container_id in (ours, foreign):
            with contextlib.suppress(Exception):
                api.remove_container(container_id, force=True)
