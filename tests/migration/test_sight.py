"""How a pod stands that is to come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cri_dockerd_py.migration.pods import pods_of
from cri_dockerd_py.migration.sight import Sight, Standing, look
from cri_dockerd_py.model.sandbox import SandboxRecord
from tests.migration.fake_node import CONTAINERD, DOCKER, FakeNode


def seen(node: FakeNode, left: str, expected: tuple[str, ...] = ("app",)) -> Sight:
    pod = pods_of(node.sandboxes.values(), node.containers.values()).get("uid-web")
    return look(pod, CONTAINERD, left, expected)


def anew(node: FakeNode, engine: str) -> tuple[SandboxRecord, SandboxRecord]:
    """Return a pod's old sandbox and its new one, which is empty."""
    old = node.newest(node.add_pod("web"))
    assert old is not None
    return old, node.add_sandbox(old.spec, engine)


async def test_each_standing_is_told() -> None:
    node = FakeNode()
    assert seen(node, "").standing is Standing.GONE
    old = node.newest(node.add_pod("web"))
    assert old is not None
    assert seen(node, old.id).standing is Standing.LEFT
    node.add_sandbox(old.spec, DOCKER)
    assert seen(node, old.id).standing is Standing.ELSEWHERE
    new = node.add_sandbox(old.spec, CONTAINERD)
    assert (seen(node, old.id).standing, seen(node, old.id).detail) == (Standing.STARTING, "waiting for app")
    node.add_container(new, "app")
    assert seen(node, old.id) == Sight(Standing.RUNNING, new.id)
    await node.report_not_ready(new.id)
    assert seen(node, old.id).standing is Standing.DOWN


@pytest.mark.parametrize(
    ("name", "exit_code", "standing"),
    [("init", 0, Standing.RUNNING), ("init", 1, Standing.CRASHED), ("app", 0, Standing.CRASHED)],
)
async def test_init_containers_may_end_and_others_may_not(name: str, exit_code: int, standing: Standing) -> None:
    node = FakeNode()
    old, new = anew(node, CONTAINERD)
    node.add_container(new, name, exit_code=exit_code)
    node.add_container(new, "app", attempt=1)
    assert seen(node, old.id).standing is standing


async def test_a_crash_is_told_in_words() -> None:
    node = FakeNode()
    old, new = anew(node, CONTAINERD)
    failed = replace(node.add_container(new, "app", exit_code=128), reason="StartError", message="no such file")
    node.put(failed)
    assert seen(node, old.id).detail == "container app ended with 128 (StartError: no such file)"
