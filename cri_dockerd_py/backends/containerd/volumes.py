"""Directories for the VOLUMEs of an image, with what the image has there copied in (MNT-13)."""

from __future__ import annotations

import asyncio
import os
import posixpath
import secrets
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.errors import Internal
from cri_dockerd_py.model.container import Mount as ContainerMount
from cri_dockerd_py.model.security import UserNamespace

_COPY_WITHIN_S = 600.0
#: Options of a container's own mount that do not go with a look at it.
_OWN_OPTIONS = ("uidmap=", "gidmap=")


class ImageDeclaredVolumes:
    """Makes the directories below a container's own one, with which they are removed."""

    def __init__(self, paths: EnginePaths) -> None:
        self._paths = paths

    async def make(
        self,
        container_id: str,
        declared: Iterable[str],
        mounts: Iterable[ContainerMount],
        rootfs: Sequence[Mount],
        userns: UserNamespace | None,
    ) -> dict[str, str]:
        """Return container path → directory for each volume that no mount of the request covers."""
        covered = {posixpath.normpath(mount.container_path) for mount in mounts}
        wanted = [path for path in (posixpath.normpath(f"/{path}") for path in declared) if path not in covered]
        if not wanted:
            return {}
        return await asyncio.to_thread(self._make, container_id, wanted, rootfs, userns)

    def _make(
        self, container_id: str, wanted: Sequence[str], rootfs: Sequence[Mount], userns: UserNamespace | None
    ) -> dict[str, str]:
        parent = self._paths.volumes(container_id)
        look = self._paths.scratch / container_id
        look.mkdir(0o700, parents=True, exist_ok=True)
        made = {}
        try:
            for mount in rootfs:
                options = [option for option in mount.options if not option.startswith(_OWN_OPTIONS)]
                host_mounts.mount(mount.type, mount.source, look, options)
            for path in wanted:
                directory = parent / secrets.token_hex(32)
                directory.mkdir(0o755, parents=True)
                _copy(look, path, directory)
                if userns is not None and userns.uids and userns.gids:
                    _shift(directory, userns.uids[0].host_id, userns.gids[0].host_id)
                made[path] = str(directory)
        finally:
            host_mounts.unmount_and_remove(look)
        return made


def _copy(root: Path, path: str, target: Path) -> None:
    """Copy a directory of a mounted root with owners and attributes; nothing there is fine."""
    try:
        fd = host_mounts.open_in_root(str(root), path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        command = ["cp", "-a", "--", f"/proc/self/fd/{fd}/.", str(target)]
        done = subprocess.run(command, pass_fds=(fd,), capture_output=True, timeout=_COPY_WITHIN_S)
    except subprocess.TimeoutExpired as error:
        raise Internal(f"the image's {path} could not be copied within {_COPY_WITHIN_S:.0f} s") from error
    finally:
        os.close(fd)
    if done.returncode:
        raise Internal(f"the image's {path} cannot be copied: {done.stderr.decode(errors='replace').strip()[:500]}")


def _shift(directory: Path, first_uid: int, first_gid: int) -> None:
    """Give what was copied to the ids that the pod's users have on the host."""
    for parent, directories, files in os.walk(directory):
        for name in (".", *directories, *files):
            path = os.path.join(parent, name)
            found = os.lstat(path)
            if name != "." or parent == str(directory):
                os.lchown(path, first_uid + found.st_uid, first_gid + found.st_gid)
