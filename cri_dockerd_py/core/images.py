"""Images: pull, find, remove, and what they use of the disk; found in memory, changed on the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.core.health import EngineHealth
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.node_status import NodeStatus
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.errors import InvalidArgument, NotFound, Unavailable
from cri_dockerd_py.model.container import ImageSpec, Mount
from cri_dockerd_py.model.image import FilesystemUsage, ImageRecord, RegistryAuth
from cri_dockerd_py.model.image_ref import normalize_reference
from cri_dockerd_py.model.sandbox import SandboxSpec

Filesystems = tuple[Sequence[FilesystemUsage], Sequence[FilesystemUsage]]


class Images:
    """The image verbs of CRI."""

    def __init__(
        self,
        engine: Engine,
        health: EngineHealth,
        inventory: Inventory,
        jobs: Jobs,
        status: NodeStatus,
        observers: CoreObservers,
    ) -> None:
        self._engine = engine
        self._health = health
        self._inventory = inventory
        self._jobs = jobs
        self._status = status
        self._observers = observers
        self._filesystems: Filesystems | None = None

    async def pull(self, spec: ImageSpec, auth: RegistryAuth | None, sandbox: SandboxSpec | None) -> str:
        """Fetch an image; return its id, by which it can be used at once (IMG-30, IMG-31)."""
        reference = normalize_reference(spec.image)
        self._health.require()
        if spec.runtime_handler and spec.runtime_handler not in (h.name for h in self._status.handlers()):
            raise InvalidArgument(f"no runtime handler {spec.runtime_handler!r} is configured on {self._engine.name}")
        image_id = await self._pull(reference, auth)
        await self.refresh_one(image_id)
        self._jobs.spawn("image filesystems", self.refresh_filesystems)
        return image_id

    async def _pull(self, reference: str, auth: RegistryAuth | None) -> str:
        began_s = time.monotonic()
        succeeded = False
        try:
            image_id = await self._health.guard(self._engine.images.pull(reference, auth))
            succeeded = True
        finally:
            self._observers.pull(time.monotonic() - began_s, succeeded)
        return image_id

    async def refresh_one(self, image_id: str) -> None:
        """Read one image anew."""
        record = await self._engine.images.inspect(image_id)
        if record is not None:
            self._inventory.put_image(record)

    async def refresh(self) -> None:
        """Read all images anew."""
        self._inventory.put_images(await self._engine.images.list())

    async def refresh_filesystems(self) -> None:
        """Measure anew what images use of the disk."""
        self._filesystems = await self._engine.images.filesystems()

    async def remove(self, image: str) -> None:
        """Remove an image with all its names; OK when unknown (IMG-50 to IMG-53)."""
        record = self._inventory.find_image(image)
        if record is None:
            return
        self._health.require()
        await self._jobs.shared(("remove image", record.id), partial(self._remove, record.id))

    async def _remove(self, image_id: str) -> None:
        await self._health.guard(self._engine.images.remove(image_id))
        self._inventory.drop_image(image_id)
        self._jobs.spawn("image filesystems", self.refresh_filesystems)

    def find(self, image: str) -> ImageRecord | None:
        """Return the image that an id, a prefix of one, a tag or a digest names, None when absent."""
        return self._inventory.find_image(image)

    def require(self, image: str) -> ImageRecord:
        """Return the image, or raise NotFound: nothing is pulled on the way (CRE-04)."""
        record = self._inventory.find_image(image)
        if record is None:
            raise NotFound(f"image {image!r} is not on this node: pull it first")
        return record

    def resolve_mounts(self, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
        """Return the mounts with the id of every mounted image filled in (MNT-15)."""
        return tuple(self._resolve_mount(mount) for mount in mounts)

    def _resolve_mount(self, mount: Mount) -> Mount:
        if mount.image is None:
            return mount
        return replace(mount, image=replace(mount.image, image_ref=self.require(mount.image.image).id))

    def filesystems(self) -> Filesystems:
        """Return (image file systems, container file systems) as last measured."""
        if self._filesystems is None:
            raise Unavailable(f"{self._engine.name} has not been reached yet, so its disk usage is not known")
        return self._filesystems

    async def verbose(self, image_id: str) -> Mapping[str, object]:
        """Return chain id and configuration of an image, for people."""
        return await self._health.guard(self._engine.images.verbose(image_id))

    async def keep_filesystems_fresh(self, every_s: float) -> None:
        """Measure now and then, for as long as the service runs."""
        while True:
            await asyncio.sleep(every_s)
            if self._health.ready:
                await self._jobs.shared("image filesystems", self.refresh_filesystems)
