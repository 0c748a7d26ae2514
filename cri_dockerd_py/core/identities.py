"""Names that are taken: a sandbox's four-part identity, a container's name and attempt within its sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.errors import AlreadyExists
from cri_dockerd_py.model.container import ContainerMetadata, ContainerRecord
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord


class Identities:
    """Knows the identities in use; one that is being made is held for as long as that takes (RUN-02, CRE-03)."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._sandboxes: set[PodMetadata] = set()
        self._containers: set[tuple[str, ContainerMetadata]] = set()

    @contextmanager
    def hold_sandbox(self, metadata: PodMetadata) -> Iterator[None]:
        """Hold a sandbox identity while it is made; AlreadyExists if it is taken."""
        if (record := self.sandbox_with(metadata)) is not None:
            raise AlreadyExists(
                f"sandbox {record.id} has the identity of pod {metadata.namespace}/{metadata.name} "
                f"attempt {metadata.attempt} already; remove it or use another attempt"
            )
        if metadata in self._sandboxes:
            raise AlreadyExists(
                f"a sandbox of pod {metadata.namespace}/{metadata.name} attempt {metadata.attempt} is being made; wait"
            )
        self._sandboxes.add(metadata)
        try:
            yield
        finally:
            self._sandboxes.discard(metadata)

    @contextmanager
    def hold_container(self, sandbox_id: str, metadata: ContainerMetadata) -> Iterator[None]:
        """Hold a container identity while it is made; AlreadyExists if it is taken."""
        key = (sandbox_id, metadata)
        if (record := self.container_with(sandbox_id, metadata)) is not None:
            raise AlreadyExists(
                f"container {record.id} is {metadata.name!r} attempt {metadata.attempt} of sandbox {sandbox_id} "
                f"already; remove it or use another attempt"
            )
        if key in self._containers:
            raise AlreadyExists(f"container {metadata.name!r} attempt {metadata.attempt} is being made; wait")
        self._containers.add(key)
        try:
            yield
        finally:
            self._containers.discard(key)

    def sandbox_with(self, metadata: PodMetadata) -> SandboxRecord | None:
        """Return the sandbox that has this identity."""
        return next((one for one in self._inventory.sandboxes.values() if one.spec.metadata == metadata), None)

    def container_with(self, sandbox_id: str, metadata: ContainerMetadata) -> ContainerRecord | None:
        """Return the container that has this identity."""
        return next((one for one in self._inventory.containers_of(sandbox_id) if one.spec.metadata == metadata), None)

    def sandbox_in_making(self, metadata: PodMetadata) -> bool:
        """Whether a sandbox of this identity is being made by a call under way."""
        return metadata in self._sandboxes

    def container_in_making(self, sandbox_id: str, metadata: ContainerMetadata) -> bool:
        """Whether a container of this identity is being made by a call under way."""
        return (sandbox_id, metadata) in self._containers
