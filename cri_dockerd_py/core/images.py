"""Images: pull, find, remove; found in memory, changed on engines.

With several engines there is one list (`image_list`); what is said of a name is about the engine where the next
container will be made, because kubelet's next call is CreateContainer (IMG-67).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.core.image_disk import Filesystems, ImageDisk
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.errors import NotFound
from cri_dockerd_py.model.container import ImageSpec, Mount
from cri_dockerd_py.model.image import ImageRecord, RegistryAuth
from cri_dockerd_py.model.image_ref import id_prefix, normalize_reference
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec
from cri_dockerd_py.store.kept import KeptRecords


class Images:
    """The image verbs of CRI."""

    def __init__(
        self,
        engines: Engines,
        inventory: Inventory,
        jobs: Jobs,
        kept: KeptRecords,
        disk: ImageDisk,
        observers: Callable[[str], CoreObservers],
    ) -> None:
        self._engines = engines
        self._inventory = inventory
        self._list = inventory.image_list
        self._jobs = jobs
        self._kept = kept
        self._disk = disk
        self._observers = observers

    # --- pull

    async def pull(self, spec: ImageSpec, auth: RegistryAuth | None, sandbox: SandboxSpec | None) -> str:
        """Fetch an image to where it will be used; return its id, by which it can be used at once (IMG-30, IMG-31)."""
        reference = normalize_reference(spec.image)
        side = self._next_side(sandbox)
        side.health.require()
        if spec.runtime_handler:
            side.check_handler(spec.runtime_handler)
        image_id = await self._pull(side, reference, auth)
        await self._refresh_one(side, image_id)
        self._jobs.spawn(("image filesystems", side.name), partial(self._disk.measure, side))
        return self._list.shown_id(image_id)

    def _next_side(self, sandbox: SandboxSpec | None) -> Side:
        """Return where the next container of a pod is made: in its newest sandbox, or else where that would be."""
        if sandbox is None or not sandbox.metadata.uid:
            return self._engines.default
        uid = sandbox.metadata.uid
        found = [record for record in self._inventory.sandboxes.values() if record.spec.metadata.uid == uid]
        if found and (newest := max(found, key=_age)).id not in self._inventory.tombstones:
            return self._engines.of(newest.engine)
        return self._engines.for_pod(uid)

    async def _pull(self, side: Side, reference: str, auth: RegistryAuth | None) -> str:
        began_s = time.monotonic()
        succeeded = False
        try:
            image_id = await side.health.guard(side.engine.images.pull(reference, auth))
            succeeded = True
        finally:
            self._observers(side.name).pull(time.monotonic() - began_s, succeeded)
        return image_id

    # --- following an engine

    async def _refresh_one(self, side: Side, image_id: str) -> None:
        record = await side.engine.images.inspect(image_id)
        if record is not None:
            self._list.put(side.name, record)
            await self.settle_ids()

    async def refresh(self, engine: str) -> None:
        """Read all images of an engine anew."""
        with self._list.reading(engine) as reading:
            self._list.put_all(reading, await self._engines.of(engine).engine.images.list())
        await self.settle_ids()

    async def remember_copy(self, original: ImageRecord, copy_id: str) -> None:
        """Show an engine's image and its copy on another one as one for good, whatever that engine can keep of it."""
        await self._kept.put_image_digests(copy_id, original.repo_digests)
        self._list.know_copy(original.id, copy_id)
        self._list.know_digests(copy_id, original.repo_digests)
        await self.settle_ids()

    async def settle_ids(self) -> None:
        """Put newly decided ids on record, and into the containers that name other ones."""
        if not (decided := self._list.take_decided()):
            return
        await self._kept.put_image_aliases(decided)
        for record in list(self._inventory.containers.values()):
            if record.image_id in decided:
                self._inventory.put_container(record)

    # --- remove

    async def remove(self, image: str) -> None:
        """Remove an image with all its names from every engine; OK when unknown (IMG-50 to IMG-53, IMG-67)."""
        record = self._inventory.find_image(image)
        if record is not None:
            await self._jobs.shared(("remove image", record.id), partial(self._remove, record.id))

    async def _remove(self, image_id: str) -> None:
        owners = [(self._engines.of(engine), own) for engine, own in self._list.owners(image_id).items()]
        for side, own in sorted(owners, key=lambda owner: not owner[0].health.ready):
            side.health.require()
            await side.health.guard(side.engine.images.remove(own.id))
            self._list.drop(side.name, own.id)
            self._jobs.spawn(("image filesystems", side.name), partial(self._disk.measure, side))

    # --- find

    def find(self, image: str) -> ImageRecord | None:
        """Return the image that an id, a prefix of one, a tag or a digest names, None when absent.

        By a name, an image is there when the engine of new pods has it; by its id, when any engine has it.
        """
        found = self._inventory.find_image(image)
        if found is None or len(self._engines.names) == 1 or self._is_id_of(image, found):
            return found
        own = self._list.find_on(self._engines.default.name, image)
        return None if own is None else self._inventory.images.get(self._list.shown_id(own.id))

    def _is_id_of(self, text: str, record: ImageRecord) -> bool:
        prefix = id_prefix(text)
        ids = (record.id, *(own.id for own in self._list.owners(record.id).values()))
        return prefix is not None and any(one.startswith(prefix) for one in ids)

    def require(self, engine: str, image: str) -> ImageRecord:
        """Return the engine's own record of an image, or raise NotFound: nothing is pulled on the way (CRE-04)."""
        self._inventory.require_known()
        record = self._list.find_on(engine, image)
        if record is None:
            raise NotFound(f"image {image!r} is not on this node's {engine}: pull it first")
        return record

    def resolve_mounts(self, engine: str, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
        """Return the mounts with the engine's id of every mounted image filled in (MNT-15)."""
        return tuple(self._resolve_mount(engine, mount) for mount in mounts)

    def _resolve_mount(self, engine: str, mount: Mount) -> Mount:
        if mount.image is None:
            return mount
        return replace(mount, image=replace(mount.image, image_ref=self.require(engine, mount.image.image).id))

    def filesystems(self) -> Filesystems:
        """Return (image file systems, container file systems) as last measured; the first one drives eviction."""
        return self._disk.filesystems()

    async def verbose(self, image_id: str) -> Mapping[str, object]:
        """Return chain id and configuration of an image, for people."""
        owners = self._list.owners(image_id)
        if not owners:
            raise NotFound(f"image {image_id} is not on this node")
        preferred = self._engines.default.name
        engine = preferred if preferred in owners else next(iter(owners))
        side = self._engines.of(engine)
        view = await side.health.guard(side.engine.images.verbose(owners[engine].id))
        return {**view, "engines": {name: own.id for name, own in owners.items()}}


def _age(record: SandboxRecord) -> tuple[int, int]:
    return record.spec.metadata.attempt, record.created_at_ns
