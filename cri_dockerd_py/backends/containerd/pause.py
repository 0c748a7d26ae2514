"""What sandboxes' own processes are made of: our static pause program, or a configured image."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.model.image import ImageRecord, RegistryAuth

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PROGRAM = "pause"
#: What a runtime would make there, could it write: every mount has its place.
_PLACES = ("proc", "dev", "sys", "etc", "run", "tmp")
_FILES = ("etc/resolv.conf", "etc/hosts", "etc/hostname")
_CONFIG = ImageConfig(entrypoint=("/pause",), user="65535:65535", working_dir="/")


@dataclass(frozen=True, slots=True)
class PauseRootfs:
    """How to mount it, and how its program is started. `snapshotter` is "" where there is no snapshot."""

    config: ImageConfig
    mounts: Sequence[Mount]
    image_name: str = ""
    snapshotter: str = ""


class PauseImages(Protocol):
    """What is needed of the image store for a configured image."""

    async def pull(self, image: str, auth: RegistryAuth | None) -> str:
        """Fetch an image and return its id."""

    async def inspect(self, image: str) -> ImageRecord | None:
        """Return the image with this reference."""

    async def config_of(self, image_id: str) -> ImageConfig:
        """Return an image's configuration."""

    async def ensure_unpacked(self, image_id: str, snapshotter: str, lease: str) -> str:
        """Return the snapshot that an image's content is."""


class BuiltInPause:
    """A directory with our program, mounted read-only into every sandbox; nothing in containerd stands for it."""

    def __init__(self, directory: Path, architecture: str) -> None:
        self._directory = directory
        self._architecture = _ARCHITECTURES.get(architecture, architecture)
        self._is_there = False

    async def ensure(self) -> None:
        """Have the program in its place."""
        if not self._is_there:
            await asyncio.to_thread(self._install)
            self._is_there = True

    async def rootfs(self, sandbox_id: str, name: str, snapshots: Snapshots) -> PauseRootfs:
        """Return what a sandbox's process is to run on."""
        await self.ensure()
        mount = Mount(type="bind", source=str(self._directory), options=["rbind", "ro"])
        return PauseRootfs(_CONFIG, (mount,))

    def _install(self) -> None:
        program = files("cri_dockerd_py.pause").joinpath(f"pause-{self._architecture}")
        if not program.is_file():
            raise FailedPrecondition(
                f"there is no built-in pause program for {self._architecture}: "
                "set pod_infra_container_image to an image that runs here"
            )
        content = program.read_bytes()
        for place in _PLACES:
            (self._directory / place).mkdir(0o755, parents=True, exist_ok=True)
        self._directory.chmod(0o755)
        for path in _FILES:
            (self._directory / path).touch(0o644)
        target = self._directory / _PROGRAM
        if not target.exists() or target.read_bytes() != content:
            fresh = self._directory / f".{_PROGRAM}.new"
            fresh.write_bytes(content)
            fresh.chmod(0o555)
            os.replace(fresh, target)


class PauseImage:
    """A configured image, pulled when it is missing, with a snapshot for every sandbox."""

    def __init__(self, name: str, images: PauseImages) -> None:
        self._name = name
        self._images = images

    async def ensure(self) -> None:
        """Have the image."""
        if await self._images.inspect(self._name) is None:
            await self._images.pull(self._name, None)

    async def rootfs(self, sandbox_id: str, name: str, snapshots: Snapshots) -> PauseRootfs:
        """Return what a sandbox's process is to run on."""
        await self.ensure()
        image = await self._images.inspect(self._name)
        if image is None:
            raise NotFound(f"pause image {self._name} is not there any more")
        config = await self._images.config_of(image.id)
        chain_id = await self._images.ensure_unpacked(image.id, snapshots.snapshotter, "")
        mounts = await snapshots.prepare(sandbox_id, chain_id, labels=labels.snapshot_labels(name))
        return PauseRootfs(config, mounts, self._name, snapshots.snapshotter)
