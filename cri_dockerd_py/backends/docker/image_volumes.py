"""Images mounted into containers read-only (MNT-14 to MNT-16): mounted once per sandbox and image, by us.

`<state dir>/image-volumes/<sandbox id>/<image digest>` is an overlay of the image's layer directories.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.user_files import layer_dirs
from cri_dockerd_py.backends.host_mounts import children, is_mounted, resolve_beneath, unmount_and_remove
from cri_dockerd_py.errors import Internal


class ImageVolumes:
    """Mounts and releases; `source` answers None where the engine has to mount the image itself."""

    def __init__(self, client: DockerClient, state_dir: Path) -> None:
        self._client = client
        self._root = state_dir / "image-volumes"
        self._lock = asyncio.Lock()

    async def source(self, sandbox_id: str, image_id: str, sub_path: str) -> str | None:
        """Return the host path of the image's content, or of `sub_path` in it, mounting it if it is not yet."""
        document = await self._client.get("/images/{}/json", image_id)
        layers = layer_dirs(document)
        if not layers:
            return None
        target = self._root / sandbox_id / image_id.removeprefix("sha256:")
        async with self._lock:
            if not await asyncio.to_thread(is_mounted, target):
                await self._mount(layers, target)
        return await asyncio.to_thread(resolve_beneath, str(target), sub_path)

    async def release(self, sandbox_id: str) -> None:
        """Unmount what was mounted for a sandbox; nothing mounted is fine."""
        async with self._lock:
            directory = self._root / sandbox_id
            for target in await asyncio.to_thread(children, directory):
                await asyncio.to_thread(unmount_and_remove, target)
            with suppress(FileNotFoundError):
                await asyncio.to_thread(os.rmdir, directory)

    async def release_all_but(self, sandbox_ids: Collection[str]) -> None:
        """Unmount what was mounted for sandboxes that are no more."""
        for directory in await asyncio.to_thread(children, self._root):
            if directory.name not in sandbox_ids:
                await self.release(directory.name)

    async def _mount(self, layers: list[str], target: Path) -> None:
        await asyncio.to_thread(target.mkdir, 0o755, True, True)
        if len(layers) == 1:
            # overlayfs wants two lower directories where there is no upper one
            await _run_mount("--bind", "-o", "ro", layers[0], str(target))
            return
        root = os.path.dirname(os.path.dirname(layers[0]))
        lower = ":".join(await asyncio.to_thread(_short_names, layers, root))
        await _run_mount("-t", "overlay", "-o", f"ro,lowerdir={lower}", "overlay", str(target), cwd=root)


def _short_names(layers: list[str], root: str) -> list[str]:
    """Return the driver's short links, relative to its root: mount options are limited to a page."""
    names = []
    for layer in layers:
        link = Path(layer).parent / "link"
        names.append(f"l/{link.read_text().strip()}" if link.exists() else os.path.relpath(layer, root))
    return names


async def _run_mount(*arguments: str, cwd: str = "/") -> None:
    process = await asyncio.create_subprocess_exec(
        "mount", *arguments, cwd=cwd, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise Internal(f"cannot mount an image: {errors.decode(errors='replace').strip()}")
