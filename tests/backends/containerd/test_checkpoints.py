"""Checkpoints that are cut off: whatever happens, the container goes on in the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py.backends.containerd.checkpoints import Checkpoints
from cri_dockerd_py.backends.containerd.objects import Held
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.errors import DeadlineExceeded, Unavailable, Unknown

ID = "ab" * 32
HELD = Held(ID, "container", "c", "io.containerd.runc.v2", "overlayfs", ID, 1)


class FakeTasks:
    """Tasks that can be paused; `away` makes calls fail. A pause takes `slow_s`, also when its caller leaves."""

    def __init__(self) -> None:
        self.paused: set[str] = set()
        self.away = False
        self.slow_s = 0.0
        self.pauses: set[asyncio.Task[None]] = set()

    async def pause(self, container_id: str) -> None:
        if container_id in self.paused:
            raise Unknown("cannot pause what is paused")
        pause = asyncio.ensure_future(self._pause(container_id))
        self.pauses.add(pause)
        await asyncio.shield(pause)

    async def _pause(self, container_id: str) -> None:
        await asyncio.sleep(self.slow_s)
        self.paused.add(container_id)

    async def checkpoint(self, container_id: str, options: object) -> None:
        self.away = True
        raise Unavailable("containerd is away")

    async def resume(self, container_id: str) -> None:
        if self.away:
            raise Unavailable("containerd is away")
        self.paused.discard(container_id)


class FakeObjects:
    """One record."""

    async def find(self, container_id: str) -> Container:
        return Container(id=container_id)


class Bench:
    """Checkpoints over one container."""

    def __init__(self, directory: Path) -> None:
        self.tasks = FakeTasks()
        self.paths = EnginePaths(directory / "root", directory / "state")
        self.location = directory / "checkpoint.tar"
        self.work = self.paths.checkpoints / ID
        self.made = self.make()

    def make(self) -> Checkpoints:
        """Return what a new process has."""
        others = cast(Any, None)
        tasks, objects = cast(Any, self.tasks), cast(Any, FakeObjects())
        return Checkpoints(others, tasks, objects, others, others, others, self.paths)

    async def write(self, within_s: float = 10.0) -> None:
        """Try to write one."""
        await self.made.write(HELD, self.location, within_s)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A node that has something called CRIU."""
    criu = tmp_path / "bin" / "criu"
    criu.parent.mkdir()
    criu.touch(0o755)
    monkeypatch.setenv("PATH", str(criu.parent))
    return Bench(tmp_path)


@pytest.mark.behaviour("CKP-03")
async def test_time_that_is_up_during_the_pause(bench: Bench) -> None:
    bench.tasks.slow_s = 0.2
    with pytest.raises(DeadlineExceeded):
        await bench.write(within_s=0.05)
    await asyncio.wait(bench.tasks.pauses)
    assert not bench.tasks.paused
    assert not bench.work.exists()


@pytest.mark.behaviour("CKP-01")
async def test_a_caller_that_leaves_during_the_pause(bench: Bench) -> None:
    bench.tasks.slow_s = 0.2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.write(), 0.05)
    await asyncio.wait(bench.tasks.pauses)
    assert not bench.tasks.paused
    assert not bench.work.exists()


@pytest.mark.behaviour("CKP-01")
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_container_that_could_not_be_resumed_is_by_a_later_sweep(bench: Bench, restarted: bool) -> None:
    with pytest.raises(Unavailable):
        await bench.write()
    if restarted:
        bench.made = bench.make()
    for away in (True, False):
        bench.tasks.away = away
        await bench.made.sweep()
        assert bench.tasks.paused == ({ID} if away else set())
        assert bench.work.exists() is away


@pytest.mark.behaviour("CKP-01")
async def test_a_container_that_could_not_be_resumed_is_by_the_next_checkpoint(bench: Bench) -> None:
    with pytest.raises(Unavailable):
        await bench.write()
    bench.tasks.away = False
    bench.tasks.slow_s = 0.2
    with pytest.raises(DeadlineExceeded):
        await bench.write(within_s=0.05)
    assert not bench.tasks.paused
    assert not bench.work.exists()


@pytest.mark.behaviour("CKP-01")
async def test_a_container_that_another_one_has_paused_stays_paused(bench: Bench) -> None:
    bench.tasks.paused = {ID}
    with pytest.raises(Unknown, match="cannot pause"):
        await bench.write()
    assert bench.tasks.paused == {ID}
    assert not bench.work.exists()
