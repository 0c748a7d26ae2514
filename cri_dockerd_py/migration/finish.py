"""The end of a migration: what is still on the engine that was left, what of it may go, and what is taken away."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cri_dockerd_py.errors import CriError
from cri_dockerd_py.migration.pods import Pod, pods_of
from cri_dockerd_py.migration.port import NodePort
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxState


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that still needs the engine, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class FinishReport:
    """What came of it: `buried` sandboxes are kept in our database alone; no leftovers: the engine may go."""

    engine: str
    other: str
    leftovers: tuple[Leftover, ...]
    buried: int
    images: int
    images_bytes: int

    @property
    def complete(self) -> bool:
        """Whether nothing needs the engine any more."""
        return not self.leftovers


async def finish(port: NodePort, engine: str, other: str, pinned: Collection[str]) -> FinishReport:
    """Bury what is dead on `engine`, and say what is left of it; may be repeated.

    With nothing left, pods go to the default engine again: those listed, and those `pinned` before they went away.
    """
    buried, leftovers = 0, list[Leftover]()
    for pod in pods_of(port.sandboxes.values(), port.containers.values()).values():
        for sandbox in pod.sandboxes:
            if sandbox.engine != engine or port.is_tombstone(sandbox.id):
                continue
            why = _still_needed(port, pod, sandbox.id)
            if not why:
                try:
                    await port.bury(sandbox.id)
                    buried += 1
                except CriError as error:
                    why = str(error)
            if why:
                leftovers.append(Leftover(f"{pod.full_name} ({sandbox.id[:13]})", why))
    if port.default_engine() == engine:
        leftovers.append(Leftover("new pods", f"they go to {engine}; `migrate run --to {other}` changes that"))
    if not leftovers:
        for uid in {record.spec.metadata.uid for record in port.sandboxes.values()}.union(pinned):
            await port.unpin(uid)
    images = port.images(engine)
    return FinishReport(
        engine, other, tuple(leftovers), buried, len(images), sum(i.size_bytes for i in images.values())
    )


def _still_needed(port: NodePort, pod: Pod, sandbox_id: str) -> str:
    sandbox = port.sandboxes[sandbox_id]
    if sandbox.state is SandboxState.READY:
        return "it runs"
    alive = (ContainerState.RUNNING, ContainerState.CREATED)
    if any(c.sandbox_id == sandbox_id and c.state in alive for c in pod.containers):
        return "containers of it still run; kubelet ends them when it makes the pod anew"
    return ""
