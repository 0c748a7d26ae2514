"""Looks at a path in an image whose layers only Docker can read: it would find out about a bad one only at start."""

from __future__ import annotations

import base64
import json
import posixpath

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.image_looks import ImageLooks
from cri_dockerd_py.errors import InvalidArgument, NotFound

_LINKS_LIMIT = 16
_GO_MODE_SYMLINK = 1 << 27
_STAT_HEADER = "X-Docker-Container-Path-Stat"


async def check_sub_path(client: DockerClient, looks: ImageLooks, image_id: str, sub_path: str) -> str:
    """Return where `sub_path` leads in the image, or raise InvalidArgument (MNT-14)."""
    return await looks.look(image_id, lambda container_id: _follow(client, container_id, sub_path))


async def _follow(client: DockerClient, container_id: str, sub_path: str) -> str:
    path = posixpath.normpath(sub_path)
    for _ in range(_LINKS_LIMIT):
        if path.startswith(("/", "../")) or path == "..":
            raise InvalidArgument(f"image_sub_path {sub_path[:200]!r} leads out of the image")
        target = await _link_target(client, container_id, path)
        if target is None:
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    raise InvalidArgument(f"image_sub_path {sub_path[:200]!r} has too many links in it")


async def _link_target(client: DockerClient, container_id: str, path: str) -> str | None:
    """Return what the link at `path` points to, None when it is no link."""
    params = {"path": f"/{path}"}
    try:
        async with client.download("/containers/{}/archive", container_id, params=params) as response:
            found = json.loads(base64.b64decode(response.headers.get(_STAT_HEADER, "")) or b"{}")
    except NotFound as error:
        raise InvalidArgument(f"image_sub_path {path[:200]!r} is not in the image") from error
    return str(found.get("linkTarget") or "") if int(found.get("mode") or 0) & _GO_MODE_SYMLINK else None
