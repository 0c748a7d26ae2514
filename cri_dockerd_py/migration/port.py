"""What migration needs of the node: two engines' facts, where pods go, and the records of all pods in memory.

Core's `MigrationPort` fits, and so does the fake of the tests. Everything that changes something is durable when it
returns, and may be repeated: a process that was killed in between does it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.node import EngineInfo, RuntimeHandler
from cri_dockerd_py.model.sandbox import SandboxRecord


class Health(Protocol):
    """Whether an engine answers."""

    @property
    def ready(self) -> bool: ...
    @property
    def reason(self) -> str: ...


class Side(Protocol):
    """One engine; `info` is None until it has been reached."""

    @property
    def name(self) -> str: ...
    @property
    def health(self) -> Health: ...
    @property
    def info(self) -> EngineInfo | None: ...


class NodePort(Protocol):
    """The node, as far as migration sees it."""

    # --- reading, from memory

    def sides(self) -> Sequence[Side]:
        """Return the engines."""

    def default_engine(self) -> str:
        """Return the name of the engine that new pods go to."""

    @property
    def sandboxes(self) -> Mapping[str, SandboxRecord]:
        """All sandboxes by id, tombstones among them."""

    @property
    def containers(self) -> Mapping[str, ContainerRecord]:
        """All containers by id, tombstones among them."""

    def is_tombstone(self, object_id: str) -> bool:
        """Whether a sandbox or container is kept in our database alone."""

    @property
    def generation(self) -> int:
        """A number that changes with every change of a sandbox or container."""

    def images(self, engine: str) -> Mapping[str, ImageRecord]:
        """Return the images of one engine, by the ids that containers name; the records have the engine's own ids."""

    async def wait_changed(self, generation: int, within_s: float) -> int:
        """Return the generation once it is another than `generation`, or after the time."""

    # --- changing

    async def set_default_engine(self, engine: str) -> None:
        """Let new pods go to `engine`."""

    async def pin(self, pod_uid: str, engine: str) -> None:
        """Let the next sandboxes of a pod go to `engine`, whatever the default is."""

    async def unpin(self, pod_uid: str) -> None:
        """Let the next sandboxes of a pod go to the default engine."""

    async def report_not_ready(self, sandbox_id: str) -> None:
        """Show a sandbox as NOTREADY from now on while its containers run, so that kubelet makes the next (RCR-30).

        The decision is on record before it is shown; a sandbox that is NOTREADY or gone already is fine.
        """

    async def report_ready(self, sandbox_id: str) -> None:
        """Take that back, which is right only as long as kubelet has not acted on it.

        FailedPrecondition when the sandbox does not run any more.
        """

    async def bury(self, sandbox_id: str) -> None:
        """Keep a dead sandbox and its containers in our database alone, and remove them from their engine (RCR-18)."""

    async def remember_copy(self, original: ImageRecord, copy_id: str) -> None:
        """Take an image that an engine got from another one, maybe under another id, for the same for good."""

    async def refresh_images(self, engine: str) -> None:
        """Read the images of one engine anew: some were put there or taken away."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine as it is now; `reason` says why it is not ready, `root_dir` is where its data are."""

    name: str
    ready: bool
    reason: str = ""
    version: str = ""
    root_dir: str = ""
    handlers: tuple[RuntimeHandler, ...] = ()
    zstd_layers: bool = True


def engine_facts(port: NodePort) -> tuple[EngineFacts, ...]:
    """Return the facts of all engines."""
    return tuple(_facts(side) for side in port.sides())


def _facts(side: Side) -> EngineFacts:
    info = side.info
    if info is None:
        return EngineFacts(side.name, side.health.ready, side.health.reason)
    return EngineFacts(
        side.name,
        side.health.ready,
        side.health.reason,
        info.version,
        info.root_dir,
        info.runtime_handlers,
        info.zstd_layers,
    )
