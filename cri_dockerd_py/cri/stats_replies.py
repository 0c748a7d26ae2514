"""Stats replies: the attributes are kept encoded with their record, only the numbers are encoded each time."""

from __future__ import annotations

from collections.abc import Iterable

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri import wire
from cri_dockerd_py.cri.encode.stats import (
    container_attributes,
    fill_container,
    fill_linux_sandbox,
    sandbox_attributes,
)
from cri_dockerd_py.cri.encoded import EncodedRecords, message_bytes
from cri_dockerd_py.cri.node import Inventory
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import SandboxRecord
from cri_dockerd_py.model.stats import ContainerAttributes, ContainerStats, PodSandboxAttributes, PodSandboxStats


class StatsReplies:
    """Encodes the usage of containers and sandboxes of one inventory."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._containers = EncodedRecords[ContainerRecord](lambda: inventory.containers, _of_container)
        self._sandboxes = EncodedRecords[SandboxRecord](lambda: inventory.sandboxes, _of_sandbox)

    def container_items(self, stats: Iterable[ContainerStats]) -> list[bytes]:
        """Return field 1 of a reply, once for each container."""
        scratch = pb.ContainerStats()
        return [wire.sub_message(1, self._container(entry, scratch)) for entry in stats]

    def sandbox_items(self, stats: Iterable[PodSandboxStats]) -> list[bytes]:
        """Return field 1 of a reply, once for each sandbox."""
        return [wire.sub_message(1, self._sandbox(entry)) for entry in stats]

    def _container(self, stats: ContainerStats, scratch: pb.ContainerStats) -> bytes:
        """Return one container's stats. A message gives its memory back only when it goes: `scratch` is one reply's."""
        scratch.Clear()
        fill_container(scratch, stats)
        return self._container_attributes(stats.attributes) + message_bytes(scratch)

    def _sandbox(self, stats: PodSandboxStats) -> bytes:
        linux, scratch = pb.LinuxPodSandboxStats(), pb.ContainerStats()
        fill_linux_sandbox(linux, stats)
        containers = b"".join([wire.sub_message(5, self._container(entry, scratch)) for entry in stats.containers])
        return self._sandbox_attributes(stats.attributes) + wire.sub_message(2, message_bytes(linux) + containers)

    def _container_attributes(self, attributes: ContainerAttributes) -> bytes:
        record = self._inventory.containers.get(attributes.id)
        if record is not None:
            return self._containers.get(attributes.id, record)
        return wire.sub_message(1, message_bytes(container_attributes(attributes)))

    def _sandbox_attributes(self, attributes: PodSandboxAttributes) -> bytes:
        record = self._inventory.sandboxes.get(attributes.id)
        if record is not None:
            return self._sandboxes.get(attributes.id, record)
        return wire.sub_message(1, message_bytes(sandbox_attributes(attributes)))


def _of_container(record: ContainerRecord) -> bytes:
    spec = record.spec
    attributes = ContainerAttributes(record.id, spec.metadata, spec.labels, spec.annotations)
    return wire.sub_message(1, message_bytes(container_attributes(attributes)))


def _of_sandbox(record: SandboxRecord) -> bytes:
    spec = record.spec
    attributes = PodSandboxAttributes(record.id, spec.metadata, spec.labels, spec.annotations)
    return wire.sub_message(1, message_bytes(sandbox_attributes(attributes)))
