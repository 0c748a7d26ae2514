"""The passwd and group files of images, read once per image."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd.rootfs_files import NeedsMountError, layers_of, read_user_files
from cri_dockerd_py.backends.known_user_files import KnownUserFiles
from cri_dockerd_py.backends.users import UserFiles


class ImageUserFiles:
    """`files` is cheap from the second time on."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._known = KnownUserFiles()

    async def files(self, image_id: str, rootfs: Sequence[Mount]) -> UserFiles:
        """Return the files of an image, on whose content `rootfs` is a fresh snapshot."""
        known = self._known.get(image_id)
        if known is None:
            known = await asyncio.to_thread(self._read, rootfs)
            self._known.keep(image_id, known)
        return known

    def _read(self, rootfs: Sequence[Mount]) -> UserFiles:
        try:
            return read_user_files(layers_of(rootfs))
        except NeedsMountError:
            return self._through_mount(rootfs)

    def _through_mount(self, rootfs: Sequence[Mount]) -> UserFiles:
        target = self._scratch / secrets.token_hex(16)
        target.mkdir(0o700, parents=True)
        try:
            for mount in rootfs:
                host_mounts.mount(mount.type, mount.source, target, mount.options)
            return read_user_files([str(target)])
        finally:
            host_mounts.unmount_and_remove(target)
