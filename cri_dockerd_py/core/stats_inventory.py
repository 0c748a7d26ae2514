"""What stats and metrics need to know of containers and sandboxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cri_dockerd_py.core.inventory import ContainerListener, SandboxListener
from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState


class StatsInventory(Protocol):
    """What stats need to know of containers and sandboxes (`core.inventory.Inventory` has it)."""

    containers: dict[str, ContainerRecord]
    sandboxes: dict[str, SandboxRecord]
    #: They hear of the record before a change and after it, None where there is none.
    on_container: list[ContainerListener]
    on_sandbox: list[SandboxListener]

    def container(self, container_id: str) -> ContainerRecord:
        """Return the container with this id or unambiguous prefix of one."""

    def sandbox(self, sandbox_id: str) -> SandboxRecord:
        """Return the sandbox with this id or unambiguous prefix of one."""

    def containers_of(self, sandbox_id: str) -> list[ContainerRecord]:
        """Return the containers of the sandbox with this full id."""

    def list_containers(
        self,
        id: str = "",
        state: ContainerState | None = None,
        sandbox_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> list[ContainerRecord]:
        """Return the containers that meet all given conditions."""

    def list_sandboxes(
        self, id: str = "", state: SandboxState | None = None, labels: Mapping[str, str] | None = None
    ) -> list[SandboxRecord]:
        """Return the sandboxes that meet all given conditions."""


Pod = tuple[SandboxRecord, Sequence[ContainerRecord]]
