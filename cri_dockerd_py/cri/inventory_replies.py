"""Replies made of what is known in memory: ready bytes put together, nothing encoded twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri import wire
from cri_dockerd_py.cri.decode import node as decode
from cri_dockerd_py.cri.decode.image import image_filter
from cri_dockerd_py.cri.encode.container import container_item, container_status
from cri_dockerd_py.cri.encode.image import image
from cri_dockerd_py.cri.encode.sandbox import sandbox_item, sandbox_status
from cri_dockerd_py.cri.encoded import EncodedList, EncodedRecords, message_bytes
from cri_dockerd_py.cri.node import ContainerEvent, Inventory
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import SandboxRecord


class InventoryReplies:
    """Lists, statuses and events of one inventory."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._sandboxes = EncodedList[SandboxRecord](lambda: inventory.sandboxes, sandbox_item)
        self._containers = EncodedList[ContainerRecord](lambda: inventory.containers, container_item)
        self._images = EncodedList[ImageRecord](lambda: inventory.images, image)
        self._sandbox_statuses = EncodedRecords[SandboxRecord](
            lambda: inventory.sandboxes, lambda record: message_bytes(sandbox_status(record))
        )
        self._container_statuses = EncodedRecords[ContainerRecord](
            lambda: inventory.containers, lambda record: message_bytes(container_status(record))
        )

    def list_sandboxes(self, given: pb.PodSandboxFilter) -> bytes:
        """Return a list reply; an empty filter lets everything through."""
        if not given.ByteSize():
            self._inventory.require_known()
            return self._sandboxes.everything(self._inventory.generation)
        return b"".join(self.sandbox_items(given))

    def sandbox_items(self, given: pb.PodSandboxFilter) -> list[bytes]:
        """Return the items of a list reply."""
        records = self._inventory.list_sandboxes(
            id=given.id, state=decode.sandbox_state(given), labels=dict(given.label_selector)
        )
        return self._sandboxes.items((record.id, record) for record in records)

    def list_containers(self, given: pb.ContainerFilter) -> bytes:
        """Return a list reply; an empty filter lets everything through."""
        if not given.ByteSize():
            self._inventory.require_known()
            return self._containers.everything(self._inventory.generation)
        return b"".join(self.container_items(given))

    def container_items(self, given: pb.ContainerFilter) -> list[bytes]:
        """Return the items of a list reply."""
        records = self._inventory.list_containers(
            id=given.id,
            state=decode.container_state(given),
            sandbox_id=given.pod_sandbox_id,
            labels=dict(given.label_selector),
        )
        return self._containers.items((record.id, record) for record in records)

    def list_images(self, given: pb.ImageFilter) -> bytes:
        """Return a list reply; an empty name lets everything through (IMG-20)."""
        if not given.image.image:
            self._inventory.require_known()
            return self._images.everything(self._inventory.images_generation)
        return b"".join(self.image_items(given))

    def image_items(self, given: pb.ImageFilter) -> list[bytes]:
        """Return the items of a list reply."""
        return self._images.items((record.id, record) for record in self._inventory.list_images(image_filter(given)))

    def image_status(self, record: ImageRecord) -> bytes:
        """Return the reply to ImageStatus: the image is its field 1, as it is of the list."""
        return self._images.items([(record.id, record)])[0]

    def sandbox_status(self, sandbox_id: str) -> bytes:
        """Return the reply to PodSandboxStatus, with the containers as of now (EVT-10)."""
        record = self._inventory.sandbox(sandbox_id)
        return b"".join(
            (
                wire.sub_message(1, self._sandbox_statuses.get(record.id, record)),
                self._statuses(3, self._inventory.containers_of(record.id)),
                wire.int64_field(4, time.time_ns()),
            )
        )

    def container_status(self, container_id: str) -> bytes:
        """Return the reply to ContainerStatus."""
        record = self._inventory.container(container_id)
        return wire.sub_message(1, self._container_statuses.get(record.id, record))

    def event(self, event: ContainerEvent) -> bytes:
        """Return a container event with the statuses that it carries."""
        kind = cast("pb.ContainerEventType", event.type)
        head = pb.ContainerEventResponse(
            container_id=event.container_id, container_event_type=kind, created_at=event.created_at_ns
        )
        status = b"" if event.sandbox is None else self._sandbox_statuses.get(event.sandbox.id, event.sandbox)
        sandbox = wire.sub_message(4, status) if status else b""
        return message_bytes(head) + sandbox + self._statuses(5, event.containers)

    def _statuses(self, number: int, records: Sequence[ContainerRecord]) -> bytes:
        return b"".join(
            [wire.sub_message(number, self._container_statuses.get(record.id, record)) for record in records]
        )
