"""What is known of every sandbox, container and image, in memory: reads are answered from here alone.

Records are immutable; a change puts a new record in its place. Engines' events, snapshots and finished writes put
records; state only moves forward (SBS-06, `model.container.TRANSITIONS`). Listeners see each change once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from cri_dockerd_py.core.image_list import ImageList
from cri_dockerd_py.errors import Unavailable
from cri_dockerd_py.model.container import TRANSITIONS, ContainerRecord, ContainerState, exit_reason
from cri_dockerd_py.model.ids import check_id, resolve_prefix
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState

SandboxListener = Callable[[SandboxRecord | None, SandboxRecord | None], None]
ContainerListener = Callable[[ContainerRecord | None, ContainerRecord | None], None]


class Inventory:
    """Maps full ids to records. `generation` changes with every change of a sandbox or container.

    `known` is set once all engines have told what they hold; until then nothing may be concluded from what is here.
    `withheld` are sandboxes that are shown as NOTREADY although they run: their `pid` is not 0. `tombstones` are
    sandboxes and containers that no engine has any more.
    """

    def __init__(self) -> None:
        self.known = False
        self.generation = 0
        self.sandboxes: dict[str, SandboxRecord] = {}
        self.containers: dict[str, ContainerRecord] = {}
        self.image_list = ImageList()
        self.withheld: set[str] = set()
        self.tombstones: set[str] = set()
        #: Containers that a call is starting: it puts them itself, with the times that the engine keeps.
        self.starting: set[str] = set()
        self.on_sandbox: list[SandboxListener] = []
        self.on_container: list[ContainerListener] = []
        self._by_sandbox: dict[str, dict[str, None]] = {}
        self._changed_at: dict[str, int] = {}
        self._exit_waiters: dict[str, list[asyncio.Future[None]]] = {}

    # --- reading

    def require_known(self) -> None:
        """Raise Unavailable until all engines have been read once: a list would say that pods are gone (LSB-09)."""
        if not self.known:
            raise Unavailable("an engine has not been reached since this service started, so what it holds is unknown")

    @property
    def images(self) -> Mapping[str, ImageRecord]:
        """All engines' images by the ids that are shown."""
        return self.image_list.merged

    @property
    def images_generation(self) -> int:
        """Changes with every change of an image."""
        return self.image_list.generation

    def sandbox(self, sandbox_id: str) -> SandboxRecord:
        """Return the sandbox with this id or unambiguous prefix of one."""
        record = self.sandboxes.get(sandbox_id)
        if record is None:
            self.require_known()
            prefix = check_id("sandbox", sandbox_id)
            record = self.sandboxes[resolve_prefix("sandbox", prefix, self.sandboxes)]
        return record

    def container(self, container_id: str) -> ContainerRecord:
        """Return the container with this id or unambiguous prefix of one."""
        record = self.containers.get(container_id)
        if record is None:
            self.require_known()
            prefix = check_id("container", container_id)
            record = self.containers[resolve_prefix("container", prefix, self.containers)]
        return record

    def containers_of(self, sandbox_id: str) -> list[ContainerRecord]:
        """Return the containers of the sandbox with this full id."""
        return [self.containers[container_id] for container_id in self._by_sandbox.get(sandbox_id, ())]

    def list_sandboxes(
        self, id: str = "", state: SandboxState | None = None, labels: Mapping[str, str] | None = None
    ) -> list[SandboxRecord]:
        """Return the sandboxes that meet all given conditions (LSB-02 to LSB-06)."""
        self.require_known()
        return [
            record
            for record in self.sandboxes.values()
            if record.id.startswith(id)
            and (state is None or record.state is state)
            and (not labels or labels.items() <= record.spec.labels.items())
        ]

    def list_containers(
        self,
        id: str = "",
        state: ContainerState | None = None,
        sandbox_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> list[ContainerRecord]:
        """Return the containers that meet all given conditions (LCT-04)."""
        self.require_known()
        return [
            record
            for record in self.containers.values()
            if record.id.startswith(id)
            and record.sandbox_id.startswith(sandbox_id)
            and (state is None or record.state is state)
            and (not labels or labels.items() <= record.spec.labels.items())
        ]

    def list_images(self, image: str = "") -> list[ImageRecord]:
        """Return all images, or the one that `image` names (IMG-20, IMG-21)."""
        self.require_known()
        if not image:
            return list(self.images.values())
        record = self.find_image(image)
        return [record] if record else []

    def find_image(self, image: str) -> ImageRecord | None:
        """Return the image that an id, a prefix of one, or a reference names; InvalidArgument if it can be none."""
        self.require_known()
        return self.image_list.find(image)

    # --- changing

    def put_sandbox(self, record: SandboxRecord) -> SandboxRecord:
        """Put a record; a sandbox that was NOTREADY stays so, and so does one that is withheld."""
        old = self.sandboxes.get(record.id)
        if record.state is SandboxState.READY:
            if record.id in self.withheld:
                record = replace(record, state=SandboxState.NOTREADY)
            elif old is not None and old.state is SandboxState.NOTREADY:
                record = replace(record, state=SandboxState.NOTREADY, pid=0)
        if record == old:
            return record
        self.sandboxes[record.id] = record
        self._touch(record.id)
        for listener in self.on_sandbox:
            listener(old, record)
        return record

    def show_again(self, record: SandboxRecord) -> None:
        """Put a sandbox that was withheld as it really is."""
        self.withheld.discard(record.id)
        self.sandboxes.pop(record.id, None)
        self.put_sandbox(record)

    def put_container(self, record: ContainerRecord) -> ContainerRecord:
        """Put a record; a state that may not follow the present one is not taken over."""
        shown = self.image_list.shown_id(record.image_id)
        if shown != record.image_id:
            record = replace(record, image_id=shown)
        old = self.containers.get(record.id)
        if old is not None and record.state is not old.state and record.state not in TRANSITIONS[old.state]:
            return old
        if record == old:
            return record
        self.containers[record.id] = record
        self._by_sandbox.setdefault(record.sandbox_id, {})[record.id] = None
        self._touch(record.id)
        for listener in self.on_container:
            listener(old, record)
        if record.state is ContainerState.EXITED:
            self._wake(record.id)
        return record

    def drop_sandbox(self, sandbox_id: str) -> None:
        """Forget a sandbox."""
        self.withheld.discard(sandbox_id)
        self.tombstones.discard(sandbox_id)
        old = self.sandboxes.pop(sandbox_id, None)
        if old is not None:
            self._touch(sandbox_id)
            for listener in self.on_sandbox:
                listener(old, None)

    def drop_container(self, container_id: str) -> None:
        """Forget a container."""
        self.tombstones.discard(container_id)
        old = self.containers.pop(container_id, None)
        if old is None:
            return
        siblings = self._by_sandbox.get(old.sandbox_id, {})
        siblings.pop(container_id, None)
        if not siblings:
            self._by_sandbox.pop(old.sandbox_id, None)
        self._touch(container_id)
        for listener in self.on_container:
            listener(old, None)
        self._wake(container_id)

    def mark_exited(
        self,
        container_id: str,
        exit_code: int,
        at_ns: int,
        *,
        oom_killed: bool = False,
        reason: str = "",
        started_at_ns: int = 0,
    ) -> None:
        """Put a container that has ended by itself or by a signal; what is known better already is kept."""
        record = self.containers.get(container_id)
        if record is None or record.state is ContainerState.EXITED:
            return
        started = record.started_at_ns or started_at_ns or at_ns
        self.put_container(
            replace(
                record,
                state=ContainerState.EXITED,
                started_at_ns=started,
                finished_at_ns=max(at_ns, started),
                exit_code=exit_code,
                reason=reason or exit_reason(exit_code, oom_killed=oom_killed),
                pid=0,
            )
        )

    def changed_since(self, object_id: str, generation: int) -> bool:
        """Whether the object was put or dropped after `generation`: then it is newer than a snapshot begun there."""
        return self._changed_at.get(object_id, 0) > generation

    def changed_after(self, generation: int) -> set[str]:
        """Return the ids of all that was put or dropped after `generation`."""
        return {key for key, at in self._changed_at.items() if at > generation}

    def forget_changes(self, generation: int) -> None:
        """Drop bookkeeping about changes up to `generation` that no snapshot needs any more."""
        self._changed_at = {key: at for key, at in self._changed_at.items() if at > generation}

    # --- waiting

    async def wait_ended(self, container_id: str, within_s: float | None) -> bool:
        """Return whether the container has ended or is gone within the time (None: as long as it takes)."""
        record = self.containers.get(container_id)
        if record is None or record.state is ContainerState.EXITED:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._exit_waiters.setdefault(container_id, [])
        waiters.append(waiter)
        try:
            async with asyncio.timeout(within_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._exit_waiters.pop(container_id, None)
        return True

    def _wake(self, container_id: str) -> None:
        for waiter in self._exit_waiters.get(container_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _touch(self, object_id: str) -> None:
        self.generation += 1
        self._changed_at[object_id] = self.generation
