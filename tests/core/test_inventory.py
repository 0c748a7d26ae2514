from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from cri_dockerd_py.core.events import ContainerEvent, ContainerEventType, Events
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.errors import InvalidArgument, NotFound, Unavailable
from cri_dockerd_py.model.container import ContainerMetadata, ContainerRecord, ContainerSpec, ContainerState, ImageSpec
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxSpec, SandboxState


def known_inventory() -> Inventory:
    inventory = Inventory()
    inventory.known = True
    return inventory


def sandbox(sandbox_id: str = "a" * 64, **labels: str) -> SandboxRecord:
    spec = SandboxSpec(PodMetadata("pod", sandbox_id, "default"), labels=labels)
    return SandboxRecord(sandbox_id, spec, SandboxState.READY, 1, "docker", pid=7, ips=("10.0.0.2",))


def container(container_id: str = "c" * 64, state: ContainerState = ContainerState.CREATED) -> ContainerRecord:
    spec = ContainerSpec(ContainerMetadata("app"), ImageSpec("busybox"))
    image = "sha256:1"
    return ContainerRecord(container_id, "a" * 64, spec, state, 2, "docker", image, image, image)


def test_nothing_is_concluded_before_an_engine_was_read() -> None:
    with pytest.raises(Unavailable):
        Inventory().list_sandboxes()
    with pytest.raises(Unavailable):
        Inventory().container("c" * 64)


def test_a_sandbox_never_gets_ready_again() -> None:
    inventory = known_inventory()
    inventory.put_sandbox(replace(sandbox(), state=SandboxState.NOTREADY))

    assert inventory.put_sandbox(sandbox()).state is SandboxState.NOTREADY


def test_a_container_state_does_not_go_back() -> None:
    inventory = known_inventory()
    inventory.put_container(container())
    inventory.mark_exited("c" * 64, 3, 50)
    inventory.put_container(container(state=ContainerState.RUNNING))

    record = inventory.container("c" * 64)
    assert (record.state, record.exit_code, record.reason) == (ContainerState.EXITED, 3, "Error")
    assert record.finished_at_ns >= record.started_at_ns > 0


def test_prefixes_resolve_when_they_name_one() -> None:
    inventory = known_inventory()
    inventory.put_sandbox(sandbox("ab" + "0" * 62))
    inventory.put_sandbox(sandbox("ac" + "0" * 62))

    assert inventory.sandbox("ab").id == "ab" + "0" * 62
    with pytest.raises(InvalidArgument, match="ambiguous"):
        inventory.sandbox("a")
    with pytest.raises(NotFound):
        inventory.sandbox("ff")
    with pytest.raises(InvalidArgument):
        inventory.sandbox("../x")


def test_filters_are_combined() -> None:
    inventory = known_inventory()
    inventory.put_sandbox(sandbox("ab" + "0" * 62, app="web"))
    inventory.put_sandbox(sandbox("ac" + "0" * 62, app="db"))

    assert [s.id[:2] for s in inventory.list_sandboxes(labels={"app": "web"})] == ["ab"]
    assert inventory.list_sandboxes(id="ac", labels={"app": "web"}) == []
    assert inventory.list_sandboxes(state=SandboxState.NOTREADY) == []


async def test_waiters_learn_of_the_end_and_of_removal() -> None:
    inventory = known_inventory()
    inventory.put_container(container(state=ContainerState.RUNNING))
    waiting = asyncio.ensure_future(inventory.wait_ended("c" * 64, 5))
    await asyncio.sleep(0)
    inventory.mark_exited("c" * 64, 0, 5)

    assert await waiting
    inventory.drop_container("c" * 64)
    assert await inventory.wait_ended("c" * 64, 0.01)


async def test_what_goes_while_its_engine_is_away_has_stopped_first() -> None:
    inventory = known_inventory()
    inventory.put_sandbox(sandbox())
    inventory.put_container(container(state=ContainerState.RUNNING))
    events = Events(inventory).subscribe()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    inventory.drop_container("c" * 64)
    inventory.drop_sandbox("a" * 64)
    seen = [await first, *[await anext(events) for _ in range(3)]]

    _, _, stopped, deleted = ContainerEventType
    kinds = [(event.container_id[0], event.type) for event in seen]
    assert kinds == [("c", stopped), ("c", deleted), ("a", stopped), ("a", deleted)]


async def test_events_are_told_once_and_in_order() -> None:
    inventory = known_inventory()
    events = Events(inventory)
    seen: list[ContainerEvent] = []

    async def listen() -> None:
        async for event in events.subscribe():
            seen.append(event)
            if len(seen) == 7:
                return

    listener = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    inventory.put_sandbox(sandbox())
    inventory.put_container(container())
    inventory.mark_exited("c" * 64, 0, 9)
    inventory.drop_container("c" * 64)
    inventory.put_sandbox(replace(sandbox(), state=SandboxState.NOTREADY))
    inventory.put_sandbox(replace(sandbox(), state=SandboxState.NOTREADY))
    inventory.drop_sandbox("a" * 64)
    async with asyncio.timeout(1):
        await listener

    kinds = [(event.container_id[0], event.type) for event in seen]
    made, started, stopped, deleted = ContainerEventType
    assert kinds == [
        ("a", made),
        ("a", started),
        ("c", made),
        ("c", started),
        ("c", stopped),
        ("c", deleted),
        ("a", stopped),
    ]
    assert all(one.created_at_ns < two.created_at_ns for one, two in itertools.pairwise(seen))


def test_a_moved_tag_leaves_the_old_image() -> None:
    inventory = known_inventory()
    inventory.image_list.put("docker", ImageRecord("sha256:" + "1" * 64, ("docker.io/library/x:1",), (), 10))
    inventory.image_list.put("docker", ImageRecord("sha256:" + "2" * 64, ("docker.io/library/x:1",), (), 10))

    assert inventory.images["sha256:" + "1" * 64].repo_tags == ()
