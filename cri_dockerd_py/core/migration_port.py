"""What moving pods between engines needs of core: which pods are where, and the few things that only core can do.

Moving itself is not here: kubelet does it, once a pod's sandbox is reported NOTREADY while its containers still run
(RCR-30). Everything that changes something is durable when it returns, and may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.core.gate import Gates
from cri_dockerd_py.core.images import Images
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.tombstones import Tombstones
from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.store.kept import KeptRecords


class MigrationPort:
    """The node as migration sees it."""

    def __init__(
        self,
        engines: Engines,
        inventory: Inventory,
        images: Images,
        tombstones: Tombstones,
        kept: KeptRecords,
        gates: Gates,
    ) -> None:
        self._engines = engines
        self._inventory = inventory
        self._images = images
        self._tombstones = tombstones
        self._kept = kept
        self._gates = gates

    # --- reading, from memory

    def sides(self) -> tuple[Side, ...]:
        """Return the engines with their health and, once they have been reached, their facts."""
        return tuple(self._engines)

    def default_engine(self) -> str:
        """Return the name of the engine that new pods go to."""
        return self._engines.default.name

    @property
    def sandboxes(self) -> Mapping[str, SandboxRecord]:
        """All sandboxes by id, tombstones among them; `pid` is not 0 as long as one runs, READY or not."""
        return self._inventory.sandboxes

    @property
    def containers(self) -> Mapping[str, ContainerRecord]:
        """All containers by id, tombstones among them."""
        return self._inventory.containers

    def is_tombstone(self, object_id: str) -> bool:
        """Whether a sandbox or container is kept in our database alone."""
        return object_id in self._inventory.tombstones

    @property
    def generation(self) -> int:
        """A number that changes with every change of a sandbox or container."""
        return self._inventory.generation

    def images(self, engine: str) -> Mapping[str, ImageRecord]:
        """Return the images of one engine, by the ids that containers name; the records have the engine's own ids."""
        return self._inventory.image_list.shown_on(engine)

    async def wait_changed(self, generation: int, within_s: float) -> int:
        """Return the generation of the inventory once it is another than `generation`, or after the time."""
        changed = asyncio.Event()

        def wake(*_: object) -> None:
            changed.set()

        self._inventory.on_sandbox.append(wake)
        self._inventory.on_container.append(wake)
        try:
            if self._inventory.generation == generation:
                async with asyncio.timeout(within_s):
                    await changed.wait()
        except TimeoutError:
            pass
        finally:
            self._inventory.on_sandbox.remove(wake)
            self._inventory.on_container.remove(wake)
        return self._inventory.generation

    # --- changing

    async def set_default_engine(self, engine: str) -> None:
        """Let new pods go to `engine`; InvalidArgument when it is not served."""
        await self._engines.set_default(engine)

    async def pin(self, pod_uid: str, engine: str) -> None:
        """Let the next sandboxes of a pod go to `engine`, whatever the default is; InvalidArgument as above."""
        await self._engines.pin(pod_uid, engine)

    async def unpin(self, pod_uid: str) -> None:
        """Let the next sandboxes of a pod go to the default engine."""
        await self._engines.unpin(pod_uid)

    async def report_not_ready(self, sandbox_id: str) -> None:
        """Show a sandbox as NOTREADY from now on while its containers run, so that kubelet builds the next one.

        The decision is on record before it is shown. From then on nothing can be created or started in the sandbox;
        stopping it really stops it. A sandbox that is NOTREADY or gone already is fine.
        """
        async with self._gates.end(sandbox_id):
            record = self._inventory.sandboxes.get(sandbox_id)
            if record is None or record.state is SandboxState.NOTREADY:
                return
            await self._kept.withhold(sandbox_id)
            self._inventory.withheld.add(sandbox_id)
            self._inventory.put_sandbox(replace(record, state=SandboxState.NOTREADY))

    async def report_ready(self, sandbox_id: str) -> None:
        """Take `report_not_ready` back, which is right only as long as kubelet has not acted on it (RCR-30 a).

        FailedPrecondition when the sandbox does not run any more; one that was not withheld stays as it is.
        """
        async with self._gates.end(sandbox_id):
            record = self._inventory.sandboxes.get(sandbox_id)
            if record is None or sandbox_id not in self._inventory.withheld:
                return
            seen = await self._engines.of(record.engine).engine.sandboxes.inspect(sandbox_id)
            if seen is None or seen.state is not SandboxState.READY:
                raise FailedPrecondition(f"sandbox {sandbox_id} does not run any more: it stays NOTREADY")
            await self._kept.show(sandbox_id)
            self._inventory.show_again(replace(record, state=SandboxState.READY, pid=seen.pid))

    async def bury(self, sandbox_id: str) -> None:
        """Keep a dead sandbox and its containers in our database alone, and remove them from their engine (RCR-18).

        They are listed with their states, exit codes and log paths until kubelet removes them. FailedPrecondition when
        something in it may run, or it holds an address; buried or gone already is fine.
        """
        await self._tombstones.bury(sandbox_id)

    async def remember_copy(self, original: ImageRecord, copy_id: str) -> None:
        """Take an image that an engine got from another one, maybe under another id, for the same for good."""
        await self._images.remember_copy(original, copy_id)

    async def refresh_images(self, engine: str) -> None:
        """Read the images of one engine anew: some were put there or taken away."""
        await self._images.refresh(engine)
