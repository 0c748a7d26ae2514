"""Images mounted into containers read-only (MNT-14 to MNT-16): mounted once per sandbox and image, by us.

`<state dir>/image-volumes/<sandbox id>/<image digest>` is an overlay of the image's layer directories.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.user_files import layer_dirs
from cri_dockerd_py.errors import Internal, InvalidArgument

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_MNT_DETACH = 2
_OPEN_HOW = struct.Struct("QQQ")
_LIBC = ctypes.CDLL(None, use_errno=True)


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
            if not await asyncio.to_thread(_is_mounted, target):
                await self._mount(layers, target)
        return await asyncio.to_thread(resolve_beneath, str(target), sub_path)

    async def release(self, sandbox_id: str) -> None:
        """Unmount what was mounted for a sandbox; nothing mounted is fine."""
        async with self._lock:
            directory = self._root / sandbox_id
            for target in await asyncio.to_thread(_children, directory):
                await asyncio.to_thread(_unmount, target)
            with suppress(FileNotFoundError):
                await asyncio.to_thread(os.rmdir, directory)

    async def release_all_but(self, sandbox_ids: Collection[str]) -> None:
        """Unmount what was mounted for sandboxes that are no more."""
        for directory in await asyncio.to_thread(_children, self._root):
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


def resolve_beneath(root: str, sub_path: str) -> str:
    """Return the real path of a directory or file below `root`; anything that leads out of it is refused."""
    if not sub_path:
        return root
    if sub_path.startswith("/") or "\0" in sub_path:
        raise InvalidArgument(f"image_sub_path {sub_path[:200]!r} must be relative to the image's root")
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OPEN_HOW.pack(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
        fd = _LIBC.syscall(_SYS_OPENAT2, root_fd, os.fsencode(sub_path), how, len(how))
        if fd < 0:
            reason = os.strerror(ctypes.get_errno())
            raise InvalidArgument(f"image_sub_path {sub_path[:200]!r} cannot be used: {reason}")
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    finally:
        os.close(root_fd)


def _short_names(layers: list[str], root: str) -> list[str]:
    """Return the driver's short links, relative to its root: mount options are limited to a page."""
    names = []
    for layer in layers:
        link = Path(layer).parent / "link"
        names.append(f"l/{link.read_text().strip()}" if link.exists() else os.path.relpath(layer, root))
    return names


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def _is_mounted(target: Path) -> bool:
    """Look in the mount table: a bind mount within one file system does not show in stat."""
    wanted = os.fsencode(target)
    with open("/proc/self/mountinfo", "rb") as table:
        return any(line.split(b" ", 5)[4] == wanted for line in table)


def _unmount(target: Path) -> None:
    if _LIBC.umount2(os.fsencode(target), _MNT_DETACH) != 0 and ctypes.get_errno() != errno.EINVAL:
        raise Internal(f"cannot unmount {target}: {os.strerror(ctypes.get_errno())}; unmount it by hand")
    target.rmdir()


async def _run_mount(*arguments: str, cwd: str = "/") -> None:
    process = await asyncio.create_subprocess_exec(
        "mount", *arguments, cwd=cwd, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise Internal(f"cannot mount an image: {errors.decode(errors='replace').strip()}")
