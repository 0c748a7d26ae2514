"""Ready bytes always say what the inventory says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.cri import wire
from cri_dockerd_py.cri.encode.container import container_item, container_status
from cri_dockerd_py.cri.encode.image import image
from cri_dockerd_py.cri.encode.sandbox import sandbox_item, sandbox_status
from cri_dockerd_py.cri.encoded import EncodedList, EncodedRecords
from cri_dockerd_py.cri.inventory_replies import InventoryReplies
from cri_dockerd_py.model.container import ContainerMetadata, ContainerRecord, ContainerSpec, ContainerState, ImageSpec
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxSpec, SandboxState
from tests.cri.fake_node import IMAGE_ID, new_id

LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b", ""]))
IMAGE_IDS = st.sampled_from(["sha256:1", "sha256:2"])


class Replies(RuleBasedStateMachine):
    """Changes an inventory at random and compares the replies with what is encoded from scratch."""

    def __init__(self) -> None:
        super().__init__()
        self.inventory = Inventory()
        self.inventory.known = True
        self.replies = InventoryReplies(self.inventory)

    @rule(labels=LABELS, ips=st.lists(st.sampled_from(["10.0.0.1", "fd00::1"]), max_size=2))
    def add_sandbox(self, labels: dict[str, str], ips: list[str]) -> None:
        sandbox_id = new_id()
        spec = SandboxSpec(PodMetadata("pod", sandbox_id, "default"), labels=labels)
        self.inventory.put_sandbox(SandboxRecord(sandbox_id, spec, SandboxState.READY, 5, "fake", ips=tuple(ips)))

    @precondition(lambda self: self.inventory.sandboxes)
    @rule(data=st.data())
    def stop_sandbox(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(list(self.inventory.sandboxes.values())))
        self.inventory.put_sandbox(replace(record, state=SandboxState.NOTREADY))

    @precondition(lambda self: self.inventory.sandboxes)
    @rule(data=st.data())
    def remove_sandbox(self, data: st.DataObject) -> None:
        sandbox_id = data.draw(st.sampled_from(list(self.inventory.sandboxes)))
        for record in self.inventory.containers_of(sandbox_id):
            self.inventory.drop_container(record.id)
        self.inventory.drop_sandbox(sandbox_id)

    @precondition(lambda self: self.inventory.sandboxes)
    @rule(data=st.data(), labels=LABELS)
    def add_container(self, data: st.DataObject, labels: dict[str, str]) -> None:
        sandbox_id = data.draw(st.sampled_from(list(self.inventory.sandboxes)))
        spec = ContainerSpec(ContainerMetadata("app"), ImageSpec(IMAGE_ID), labels=labels)
        state = ContainerState.CREATED
        record = ContainerRecord(new_id(), sandbox_id, spec, state, 7, "fake", IMAGE_ID, IMAGE_ID, IMAGE_ID)
        self.inventory.put_container(record)

    @precondition(lambda self: self.inventory.containers)
    @rule(data=st.data(), message=st.text(max_size=3))
    def end_container(self, data: st.DataObject, message: str) -> None:
        record = data.draw(st.sampled_from(list(self.inventory.containers.values())))
        self.inventory.put_container(replace(record, message=message))
        self.inventory.mark_exited(record.id, 1, 9)

    @precondition(lambda self: self.inventory.containers)
    @rule(data=st.data())
    def remove_container(self, data: st.DataObject) -> None:
        self.inventory.drop_container(data.draw(st.sampled_from(list(self.inventory.containers))))

    @rule(image_id=IMAGE_IDS, tags=st.lists(st.sampled_from(["a:1", "b:1"]), max_size=2))
    def put_image(self, image_id: str, tags: list[str]) -> None:
        self.inventory.image_list.put("docker", ImageRecord(image_id, tuple(tags), (), 5))

    @rule(image_id=IMAGE_IDS)
    def remove_image(self, image_id: str) -> None:
        self.inventory.image_list.drop("docker", image_id)

    @rule()
    def list_everything(self) -> None:
        sandboxes = [sandbox_item(record) for record in self.inventory.sandboxes.values()]
        containers = [container_item(record) for record in self.inventory.containers.values()]
        images = [image(record) for record in self.inventory.images.values()]

        pods = cri.ListPodSandboxResponse.FromString(self.replies.list_sandboxes(cri.PodSandboxFilter()))
        listed = cri.ListContainersResponse.FromString(self.replies.list_containers(cri.ContainerFilter()))
        shown = cri.ListImagesResponse.FromString(self.replies.list_images(cri.ImageFilter()))

        assert list(pods.items) == sandboxes
        assert list(listed.containers) == containers
        assert list(shown.images) == images

    @rule(labels=LABELS)
    def list_some(self, labels: dict[str, str]) -> None:
        given = cri.PodSandboxFilter(label_selector=labels, state=cri.PodSandboxStateValue(state=cri.SANDBOX_READY))
        records = self.inventory.list_sandboxes(labels=labels, state=SandboxState.READY)

        answer = cri.ListPodSandboxResponse.FromString(self.replies.list_sandboxes(given))

        assert list(answer.items) == [sandbox_item(record) for record in records]

    @invariant()
    def statuses_are_true(self) -> None:
        for sandbox in self.inventory.sandboxes.values():
            answer = cri.PodSandboxStatusResponse.FromString(self.replies.sandbox_status(sandbox.id))
            assert answer.status == sandbox_status(sandbox)
            assert list(answer.containers_statuses) == [
                container_status(record) for record in self.inventory.containers_of(sandbox.id)
            ]
        for container in self.inventory.containers.values():
            reply = self.replies.container_status(container.id)
            assert cri.ContainerStatusResponse.FromString(reply).status == container_status(container)


Replies.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_replies_say_what_is_so = Replies.TestCase


@pytest.fixture
def live() -> dict[str, int]:
    return {}


def test_a_record_is_encoded_once(live: dict[str, int]) -> None:
    encoded: list[int] = []

    def encode(record: int) -> bytes:
        encoded.append(record)
        return str(record).encode()

    live.update(a=1001, b=1002)
    records = EncodedRecords[int](lambda: live, encode)
    for _ in range(3):
        assert [records.get(key, value) for key, value in live.items()] == [b"1001", b"1002"]
    live["b"] = 1003

    assert [records.get(key, value) for key, value in live.items()] == [b"1001", b"1003"]
    assert encoded == [1001, 1002, 1003]


def test_entries_of_gone_objects_go(live: dict[str, int]) -> None:
    records = EncodedRecords[int](lambda: live, lambda record: b"%d" % record)
    for number in range(1000):
        live.clear()
        live[f"id-{number}"] = number
        records.get(f"id-{number}", number)

        assert len(records) == 1


def test_one_change_encodes_one_item(live: dict[str, int]) -> None:
    encoded: list[int] = []

    def encode(record: int) -> cri.PodIP:
        encoded.append(record)
        return cri.PodIP(ip=str(record))

    live.update({str(number): 1000 + number for number in range(50)})
    items = EncodedList[int](lambda: live, encode)
    first = items.everything(1)
    assert items.everything(1) is first
    live["7"] = 5000
    second = items.everything(2)

    assert len(encoded) == 51
    assert second.count(b"5000") == 1
    assert b"1007" not in second
    live.clear()
    assert items.everything(3) == b""
    assert len(items) == 0


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**21, 2**31, 2**63 - 1])
def test_numbers_on_the_wire(number: int) -> None:
    encoded = wire.int64_field(4, number)

    assert cri.PodSandboxStatusResponse.FromString(encoded).timestamp == number
    assert encoded == cri.PodSandboxStatusResponse(timestamp=number).SerializeToString() or not number


def test_chunks_hold_every_item_once() -> None:
    items = [bytes([number]) * size for number, size in enumerate([10, 1 << 20, 1, (1 << 20) + 5, 600_000, 600_000])]
    messages = list(wire.chunks(items))

    assert b"".join(messages) == b"".join(items)
    assert [len(message) for message in messages] == [10, 1 << 20, 1, (1 << 20) + 5, 600_000, 600_000]
    assert list(wire.chunks([])) == []
    assert list(wire.chunks([b"a"] * 3)) == [b"aaa"]
