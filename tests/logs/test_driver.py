"""The log driver over its plugin socket."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_dockerd_py.errors import AlreadyExists, FailedPrecondition, NotFound
from cri_dockerd_py.logs.docker_entry import decode_entry
from cri_dockerd_py.logs.driver import LogDriver
from tests.logs.frames import START_NS, Message, frame, numbered
from tests.logs.plugin_client import Engine, info, numbers


class Node:
    """A driver, the engine that calls it, and their directories."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "pods"
        self.engine = Engine(directory / "drv.sock", directory)
        self.driver = self.new_driver()

    def new_driver(self, inherited: dict[str, int] | None = None) -> LogDriver:
        return LogDriver("drv", state_dir=self.directory / "st", plugin_dir=self.directory, inherited=inherited)

    async def restart(self, inherited: dict[str, int] | None = None) -> None:
        await self.driver.stop()
        self.driver = self.new_driver(inherited)
        await self.driver.start()

    async def arrives(self, path: Path, count: int) -> None:
        async with asyncio.timeout(10):
            while not path.exists() or path.read_bytes().count(b"\n") < count:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    await node.driver.start()
    yield node
    await node.driver.stop()
    node.engine.die()


async def test_it_says_what_it_is(node: Node) -> None:
    assert await node.engine.call("Plugin.Activate", None) == {"Implements": ["LogDriver"]}
    assert await node.engine.call("LogDriver.Capabilities", None) == {"Cap": {"ReadLogs": True}, "Err": ""}
    assert node.driver.log_config() == {"Type": "drv", "Config": {"cache-disabled": "true"}}


async def test_its_socket_is_closed_to_others_and_goes_with_it(tmp_path: Path) -> None:
    driver = LogDriver("drv", state_dir=tmp_path / "st", plugin_dir=tmp_path / "plugins")
    await driver.start()
    try:
        assert (tmp_path / "plugins").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "plugins/drv.sock").stat().st_mode & 0o777 == 0o600
    finally:
        await driver.stop()
    assert not (tmp_path / "plugins/drv.sock").exists()


@pytest.mark.behaviour("LOG-07", "LOG-13", "CST-11")
async def test_all_lines_are_in_the_file_when_stop_logging_answers(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    assert path.exists()
    assert node.driver.is_logging("c1")
    for first in range(0, 5000, 500):
        node.engine.print(fifo, numbered(first, 500))
    await node.engine.stop(fifo)
    assert numbers(path) == list(range(5000))
    assert not node.driver.is_logging("c1")
    assert [file.name for file in (node.directory / "st").iterdir()] == ["lock"]


@pytest.mark.behaviour("LOG-07")
async def test_a_line_is_visible_at_once(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    delays = []
    for n in range(7):
        await asyncio.sleep(0.05)  # quiet for a while, which is what is tested
        begin = asyncio.get_running_loop().time()
        node.engine.print(fifo, numbered(n, 1))
        await node.arrives(path, n + 1)
        delays.append(asyncio.get_running_loop().time() - begin)
    assert sorted(delays)[3] < 0.02


@pytest.mark.behaviour("LOG-05", "LOG-06")
async def test_streams_share_the_file_in_order(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    node.engine.print(fifo, b"".join(frame(Message(b"%d" % n, ("stdout", "stderr")[n % 2])) for n in range(10)))
    await node.engine.stop(fifo)
    assert [line.split()[1:] for line in path.read_text().splitlines()] == [
        [("stdout", "stderr")[n % 2], "F", str(n)] for n in range(10)
    ]


async def test_start_and_stop_are_idempotent_and_a_restarted_container_appends(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    node.engine.print(fifo, numbered(0, 3))
    await node.engine.start("c1", path, fifo)
    await node.engine.stop(fifo)
    assert await node.engine.call("LogDriver.StopLogging", {"File": fifo}) == {"Err": ""}
    fifo = await node.engine.start("c1", path)
    node.engine.print(fifo, numbered(3, 3))
    await node.engine.stop(fifo)
    assert numbers(path) == list(range(6))


@pytest.mark.parametrize("path", ["relative.log", "/a/../b.log", "/dev/null"])
async def test_a_bad_log_path_is_refused_by_name(node: Node, path: str) -> None:
    fifo = node.engine.make_fifo()
    answer = await node.engine.call("LogDriver.StartLogging", {"File": fifo, "Info": info("c1", Path(path))})
    assert path in answer["Err"]
    assert not node.driver.is_logging("c1")


async def test_a_call_that_docker_repeats_without_its_body_is_refused(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await node.engine.call("LogDriver.StartLogging", None)
    assert "try again" in answer["Err"]
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]


async def test_rubbish_requests_are_answered(node: Node) -> None:
    for body in ({}, {"File": "/nonexistent", "Info": info("c1", None)}, {"File": 1, "Info": {"ContainerID": "../x"}}):
        assert (await node.engine.call("LogDriver.StartLogging", body))["Err"]
    fifo = node.engine.make_fifo()
    assert (await node.engine.call("LogDriver.StartLogging", {"File": fifo, "Info": info("../x", None)}))["Err"]
    assert (await node.engine.call("LogDriver.StartLogging", {"File": "/etc/passwd", "Info": info("c", None)}))["Err"]
    await node.engine.start("c2", node.logs / "0.log")


async def test_a_dead_engines_fifo_is_drained_before_its_successors(node: Node) -> None:
    path = node.logs / "0.log"
    old = await node.engine.start("c1", path)
    node.engine.print(old, numbered(0, 500))
    new = node.engine.make_fifo()
    node.engine.print(new, numbered(500, 500))
    node.engine.die(old)
    await node.engine.start("c1", path, new)
    await node.engine.stop(new)
    assert numbers(path) == list(range(1000))
    assert not Path(old).exists()


async def test_only_one_fifo_of_a_container_is_read(node: Node) -> None:
    path = node.logs / "0.log"
    old = await node.engine.start("c1", path)
    node.engine.print(old, numbered(0, 500))
    new = await node.engine.start("c1", path)
    assert len(await node.driver.open_fifos()) == 1
    node.engine.print(new, numbered(500, 500))
    await node.engine.stop(new)
    assert numbers(path) == list(range(1000))


async def test_a_dead_engine_leaves_the_log_open_for_rotation(node: Node) -> None:
    path = node.logs / "0.log"
    old = await node.engine.start("c1", path)
    node.engine.die(old)
    async with asyncio.timeout(5):
        while Path(old).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    path.rename(path.with_suffix(".old"))
    await node.driver.reopen("c1")
    new = await node.engine.start("c1", path)
    node.engine.print(new, numbered(0, 1))
    await node.engine.stop(new)
    assert numbers(path) == [0]


async def test_a_new_process_goes_on_where_the_old_one_stopped(node: Node) -> None:
    paths = [node.logs / f"{n}.log" for n in range(5)]
    fifos = [await node.engine.start(f"c{n}", path) for n, path in enumerate(paths)]
    quiet = await node.engine.start("quiet", None)
    for first in range(0, 50, 10):
        for fifo in (*fifos, quiet):
            node.engine.print(fifo, numbered(first, 10))
        await node.restart()
    for fifo in (*fifos, quiet):
        await node.engine.stop(fifo)
    for path in paths:
        assert numbers(path) == list(range(50))


async def test_what_a_descriptor_store_kept_is_drained_when_the_engine_died_too(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    kept = {name: os.dup(fd) for name, fd in (await node.driver.open_fifos()).items()}
    assert list(kept) == ["log-c1"]
    await node.driver.stop()
    node.engine.print(fifo, numbered(0, 100))
    node.engine.die(fifo)
    os.unlink(fifo)
    stray, stray_writer = os.pipe()
    await node.restart({**kept, "log-unknown": stray})
    await node.arrives(path, 100)
    assert numbers(path) == list(range(100))
    with pytest.raises(BrokenPipeError):  # what nobody knows is closed
        os.write(stray_writer, b"x")


async def test_a_frame_torn_by_a_dead_engine_does_not_spoil_what_its_successor_sends(node: Node) -> None:
    path = node.logs / "0.log"
    old = await node.engine.start("c1", path)
    node.engine.print(old, numbered(0, 3) + frame(Message(b"lost half"))[:-5])
    await node.arrives(path, 3)
    await node.driver.stop()
    node.engine.die(old)
    os.unlink(old)
    await node.restart()
    new = await node.engine.start("c1", path)
    node.engine.print(new, numbered(3, 3))
    await node.engine.stop(new)
    assert [line.split(b" ", 2)[2][:10] for line in path.read_bytes().splitlines()][3:5] == [b"P lost", b"F 00000003"]
    assert node.driver.counters.dropped_bytes == 0


async def test_a_listening_socket_may_be_handed_over(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "drv.sock"))
    listener.listen()
    driver = LogDriver("drv", state_dir=tmp_path / "st", plugin_dir=tmp_path, listener=listener.dup())
    engine = Engine(tmp_path / "drv.sock", tmp_path)
    async with asyncio.TaskGroup() as group:
        early = group.create_task(engine.call("Plugin.Activate", None))  # it waits for the driver
        await asyncio.sleep(0.05)
        await driver.start()
    assert early.result() == {"Implements": ["LogDriver"]}
    await driver.stop()
    assert (tmp_path / "drv.sock").exists()
    listener.close()


@pytest.mark.behaviour("LOG-20", "LOG-21", "LOG-22")
async def test_rotation_of_running_stopped_and_unknown_containers(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    node.engine.print(fifo, numbered(0, 10))
    await node.arrives(path, 10)
    rotated = path.with_name("0.log.20260102-030405")
    path.rename(rotated)
    await node.driver.reopen("c1")
    node.engine.print(fifo, numbered(10, 10))
    await node.engine.stop(fifo)
    assert (numbers(rotated), numbers(path)) == (list(range(10)), list(range(10, 20)))
    path.unlink()
    with pytest.raises(FailedPrecondition, match="c1"):
        await node.driver.reopen("c1")
    with pytest.raises(NotFound, match="c2"):
        await node.driver.reopen("c2")
    assert not path.exists()
    assert node.driver.counters.rotations == 1


async def test_forget_leaves_only_the_log(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    node.engine.print(fifo, numbered(0, 2))
    await node.driver.forget("c1")
    await node.driver.forget("c1")
    assert node.driver.known() == frozenset()
    assert numbers(path) == [0, 1]
    assert [file.name for file in (node.directory / "st").iterdir()] == ["lock"]


async def test_two_instances_cannot_share_a_name_or_a_state_directory(node: Node, tmp_path: Path) -> None:
    late = LogDriver("other", state_dir=tmp_path / "st", plugin_dir=tmp_path)
    with pytest.raises(FailedPrecondition, match="state directory"):
        await late.start()
    await late.stop()
    twin = LogDriver("drv", state_dir=tmp_path / "st2", plugin_dir=tmp_path)
    with pytest.raises(AlreadyExists, match="another log driver name"):
        await twin.start()
    await node.engine.start("c1", node.logs / "0.log")


async def test_damaged_state_of_one_container_does_not_stop_the_others(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    await node.engine.start("c2", node.logs / "1.log")
    (node.directory / "st" / "c2" / "meta.json").write_text("{")
    (node.directory / "st" / "half-made").mkdir()
    node.engine.print(fifo, numbered(0, 2))
    await node.restart()
    await node.arrives(path, 2)
    assert not node.driver.is_logging("c2")


async def test_many_containers_at_once(node: Node) -> None:
    count = 60
    fifos = [await node.engine.start(f"c{n}", node.logs / f"{n}.log") for n in range(count)]
    for first in range(0, 200, 20):
        for fifo in fifos:
            node.engine.print(fifo, numbered(first, 20))
        await asyncio.sleep(0)
    await asyncio.gather(*(node.engine.stop(fifo) for fifo in fifos))
    for n in range(count):
        assert numbers(node.logs / f"{n}.log") == list(range(200))


def contents(body: bytes) -> list[bytes]:
    """The lines in a stream of frames."""
    lines = []
    while body:
        (size,) = struct.unpack_from(">I", body)
        entry = decode_entry(body[4 : 4 + size])
        assert entry is not None
        lines.append(entry.line)
        body = body[4 + size :]
    return lines


async def test_read_logs_gives_all_or_the_tail_or_a_span(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    messages = [Message(b"%d" % n, time_ns=START_NS + n * 10**9) for n in range(10)]
    node.engine.print(fifo, b"".join(map(frame, messages[:6])))
    await node.arrives(path, 6)
    path.rename(path.with_name("0.log.20260102-030405"))
    await node.driver.reopen("c1")
    node.engine.print(fifo, b"".join(map(frame, messages[6:])))
    await node.arrives(path, 4)
    every = [b"%d\n" % n for n in range(10)]
    zero = "0001-01-01T00:00:00Z"
    assert contents(await node.engine.read("c1", path, Since=zero, Until=zero, Tail=-1)) == every
    assert contents(await node.engine.read("c1", path, Tail=3)) == every[7:]
    assert contents(await node.engine.read("c1", path, Tail=6)) == every[4:]
    assert contents(await node.engine.read("c1", path, Tail=0)) == []
    assert contents(await node.engine.read("c1", path, Since="2026-09-21T14:13:22Z", Tail=-1)) == every[2:]
    assert contents(await node.engine.read("c1", path, Until="2026-09-21T14:13:22Z", Tail=-1)) == every[:3]
    assert await node.engine.read("c9", node.logs / "none.log", Tail=-1) == b""


async def test_read_logs_follows_through_a_rotation_until_the_container_stops(node: Node) -> None:
    path = node.logs / "0.log"
    fifo = await node.engine.start("c1", path)
    node.engine.print(fifo, numbered(0, 2))
    await node.arrives(path, 2)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(node.engine.read("c1", path, Tail=1, Follow=True))
        await asyncio.sleep(0.1)
        node.engine.print(fifo, numbered(2, 2))
        await node.arrives(path, 4)
        path.rename(path.with_name("0.log.20260102-030405"))
        await node.driver.reopen("c1")
        node.engine.print(fifo, numbered(4, 2))
        await node.arrives(path, 2)
        await asyncio.sleep(0.6)
        node.engine.print(fifo, numbered(6, 2))
        await node.engine.stop(fifo)
    assert [int(line.split()[0]) for line in contents(following.result())] == [1, 2, 3, 4, 5, 6, 7]
