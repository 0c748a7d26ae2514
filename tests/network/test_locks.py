from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from cri_dockerd_py.errors import Internal
from cri_dockerd_py.network.locks import PodLocks


async def test_one_at_a_time_on_a_pod_and_others_beside(tmp_path: Path) -> None:
    locks = PodLocks(tmp_path / "locks")
    order: list[str] = []
    go_on = asyncio.Event()

    async def first() -> None:
        async with locks.hold("a"):
            order.append("first")
            await go_on.wait()
            order.append("first ends")

    async def second() -> None:
        async with locks.hold("a"):
            order.append("second")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        await asyncio.sleep(0)
        group.create_task(second())
        async with locks.hold("b"):
            order.append("other pod")
        go_on.set()
    assert order == ["first", "other pod", "first ends", "second"]


async def test_the_file_goes_with_the_pod(tmp_path: Path) -> None:
    locks = PodLocks(tmp_path / "locks")
    async with locks.hold("a"):
        pass
    assert (tmp_path / "locks" / "a").exists()
    async with locks.hold("a", forget=True):
        pass
    assert not (tmp_path / "locks" / "a").exists()


async def test_a_plugin_that_outlived_its_runtime_is_waited_for(tmp_path: Path) -> None:
    """A process that inherited the descriptor holds the lock although nobody unlocked it."""
    path = tmp_path / "a"
    script = 'exec 9>"$1"; flock 9; echo locked; read line'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as leftover:
        assert leftover.stdout is not None
        assert leftover.stdin is not None
        assert leftover.stdout.readline() == b"locked\n"
        held = asyncio.Event()

        async def wait() -> None:
            async with PodLocks(tmp_path).hold("a"):
                held.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(held.wait(), 0.2)
            leftover.stdin.close()


async def test_what_a_plugin_left_running_holds_no_lock_after_a_clean_end(tmp_path: Path) -> None:
    async with PodLocks(tmp_path).hold("a") as fd:
        daemon = subprocess.Popen(["sleep", "60"], pass_fds=(fd,))
    try:
        async with asyncio.timeout(5), PodLocks(tmp_path).hold("a"):
            pass
    finally:
        daemon.kill()
        daemon.wait()


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Internal, match="cannot lock the network of sandbox a"):
        async with PodLocks(tmp_path / "file").hold("a"):
            pass
