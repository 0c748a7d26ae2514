"""Containers' raw output: log files, the end of streams, rotation, going on after a restart."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from cri_dockerd_py.logs.outputs import ContainerOutputs
from tests.logs.shim import Shim, numbers, printed

SOON_SECONDS = 10.0


class Node:
    """The service's side, and the shims of its containers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.outputs = ContainerOutputs(self.state)
        self.shims: list[Shim] = []

    def log(self, container_id: str) -> Path:
        return self.directory / "pods" / f"{container_id}.log"

    async def container(self, container_id: str, *, keep: bool = True, tty: bool = False) -> Shim:
        """A container that runs and has printed nothing yet."""
        shim = Shim(self.directory / container_id, tty=tty)
        self.shims.append(shim)
        path = str(self.log(container_id)) if keep else ""
        await self.outputs.open(container_id, path, shim.stdout, shim.stderr)
        shim.start()
        return shim

    async def restart(self, **options: dict[str, int]) -> None:
        await self.outputs.close()
        self.outputs = ContainerOutputs(self.state, **options)
        await self.outputs.start()

    async def arrives(self, container_id: str, lines: int) -> None:
        path = self.log(container_id)
        async with asyncio.timeout(SOON_SECONDS):
            while path.read_bytes().count(b"\n") < lines:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.state.iterdir())


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    await node.outputs.start()
    yield node
    await node.outputs.close()
    for shim in node.shims:
        shim.end()


async def exited(process: subprocess.Popen[bytes]) -> None:
    """A spawned process has ended well."""
    assert await asyncio.to_thread(process.wait, 60) == 0


@pytest.mark.behaviour("LOG-01", "LOG-06", "LOG-07", "LOG-13", "CST-11")
async def test_all_lines_are_in_the_file_when_finish_returns(node: Node) -> None:
    shim = await node.container("c1")
    assert node.log("c1").stat().st_mode & 0o777 == 0o640
    shim.print(b"out 1\nout 2\r\n\nno newline")
    shim.print(b"err 1\n", 2)
    shim.end()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log("c1")) == b"out 1\nout 2\n\nno newline"
    assert printed(node.log("c1"), stream="stderr") == b"err 1\n"
    assert node.log("c1").read_bytes().count(b" P no newline\n") == 1
    assert node.outputs.known() == frozenset()
    assert node.left() == ["lock"]
    assert node.outputs.counters.written_lines == 5


@pytest.mark.behaviour("LOG-07")
async def test_a_line_is_visible_at_once(node: Node) -> None:
    shim = await node.container("c1")
    delays = []
    for n in range(7):
        await asyncio.sleep(0.05)  # quiet for a while, which is what is tested
        begin = time.monotonic()
        shim.print(b"%d\n" % n)
        await node.arrives("c1", n + 1)
        delays.append(time.monotonic() - begin)
    assert sorted(delays)[3] < 0.02


@pytest.mark.behaviour("LOG-05")
async def test_with_a_tty_there_is_one_stream(node: Node) -> None:
    shim = await node.container("c1", tty=True)
    shim.print(b"$ ls\r\na  b\r\n$ ")
    shim.end()
    await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log("c1")) == b"$ ls\na  b\n$ "


async def test_a_stream_without_a_writer_has_not_ended_before_it_is_said(node: Node) -> None:
    shim = Shim(node.directory / "c1")
    await node.outputs.open("c1", str(node.log("c1")), shim.stdout, shim.stderr)
    before = time.process_time()
    for n in range(3):
        shim.start()
        shim.print(b"%d\n" % n)
        shim.end()
        await node.arrives("c1", n + 1)
        await asyncio.sleep(0.1)  # long enough to see a loop that spins
    assert time.process_time() - before < 0.15
    assert node.outputs.known() == {"c1"}
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log("c1")) == b"0\n1\n2\n"


@pytest.mark.behaviour("CST-11")
async def test_finish_waits_for_what_is_still_on_its_way(node: Node) -> None:
    shim = await node.container("c1")
    shim.print(b"before\n")
    async with asyncio.TaskGroup() as group:
        finishes = [group.create_task(node.outputs.finish("c1", SOON_SECONDS), name=f"finish {n}") for n in range(2)]
        await node.arrives("c1", 1)
        shim.print(b"after\n")
        await node.arrives("c1", 2)
        assert not any(finish.done() for finish in finishes)
        shim.print(b"last")
        shim.end()
    assert [finish.result() for finish in finishes] == [True, True]
    assert printed(node.log("c1")) == b"before\nafter\nlast"
    assert await node.outputs.finish("c1", SOON_SECONDS)


async def test_finish_is_bounded_while_a_child_in_the_background_goes_on_printing(node: Node) -> None:
    shim = await node.container("c1")
    child = shim.spawn("while :; do echo from a child in the background; done")
    await node.arrives("c1", 10)
    begin = time.monotonic()
    assert not await node.outputs.finish("c1", 0.3)
    assert 0.3 <= time.monotonic() - begin < 3
    lines = set(printed(node.log("c1")).split(b"\n")[:-1])
    assert lines == {b"from a child in the background"}
    assert node.left() == ["lock"]
    child.kill()
    child.wait()


@pytest.mark.parametrize("path", ["relative.log", "/a/../b.log"])
async def test_a_bad_log_path_is_refused_by_name(node: Node, path: str) -> None:
    shim = Shim(node.directory / "c1")
    with pytest.raises(InvalidArgument, match=path):
        await node.outputs.open("c1", path, shim.stdout, shim.stderr)


async def test_what_cannot_be_opened_leaves_nothing_behind(node: Node) -> None:
    shim = Shim(node.directory / "c1")
    with pytest.raises(FailedPrecondition, match="/dev/null"):
        await node.outputs.open("c1", "/dev/null", shim.stdout, shim.stderr)
    with pytest.raises(FailedPrecondition, match="absent"):
        await node.outputs.open("c1", str(node.log("c1")), shim.stdout, node.directory / "absent")
    with pytest.raises(InvalidArgument):
        await node.outputs.open("../x", str(node.log("c1")), shim.stdout, None)
    assert node.outputs.known() == frozenset()
    assert node.left() == ["lock"]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FailedPrecondition, match="is not a FIFO"):
        await node.outputs.open("c1", "", shim.stdout, Path("/dev/null"))
    assert len(os.listdir("/proc/self/fd")) == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_when_descriptors_run_out_none_is_leaked_and_the_error_says_so(node: Node) -> None:
    shim = Shim(node.directory / "c1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.open("/dev/null", os.O_RDONLY)
    os.close(first_free)
    before, errors = descriptors(), list[str]()
    try:
        while "c1" not in node.outputs.known():
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + len(errors), hard))
            try:
                await node.outputs.open("c1", str(node.log("c1")), shim.stdout, shim.stderr)
            except ResourceExhausted as error:
                errors.append(str(error))
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert (descriptors(), node.outputs.known()) == (before, frozenset())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(errors) > 7  # two FIFOs with two spool files each, the journal, the log file
    assert all("Too many open files" in error for error in errors)


async def test_when_the_state_cannot_be_written_nothing_new_is_left_open(node: Node) -> None:
    shim = await node.container("c1")
    (node.state / "c1" / "meta.new").mkdir()
    for fifo in node.directory.joinpath("c1").iterdir():
        fifo.unlink()
    new = Shim(node.directory / "c1")
    opened = []
    for _ in range(3):
        with pytest.raises(FailedPrecondition, match="cannot keep the log of container c1"):
            await node.outputs.open("c1", str(node.log("c1")), new.stdout, new.stderr)
        opened.append(descriptors())
    assert opened[0] == opened[1] == opened[2]
    shim.end()


async def test_open_twice_is_once_and_new_fifos_take_the_place_of_old_ones(node: Node) -> None:
    shim = await node.container("c1")
    shim.print(b"old\n")
    await node.outputs.open("c1", str(node.log("c1")), shim.stdout, shim.stderr)
    await node.arrives("c1", 1)
    shim.end()
    for fifo in node.directory.joinpath("c1").iterdir():
        fifo.unlink()
    new = Shim(node.directory / "c1")
    await node.outputs.open("c1", str(node.log("c1")), new.stdout, new.stderr)
    new.start()
    new.print(b"new\n")
    new.end()
    assert new.stdout.exists()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log("c1")) == b"old\nnew\n"


@pytest.mark.behaviour("LOG-20", "LOG-22")
async def test_rotation_under_load_loses_and_doubles_nothing(node: Node) -> None:
    shim = await node.container("c1")
    bursts = "for n in {0..59}; do seq $((n * 10000 + 1)) $((n * 10000 + 10000)); sleep 0.02; done"
    writer = shim.spawn(bursts)
    rotated = []
    while writer.poll() is None:
        rotated.append(node.log("c1").rename(node.log("c1").with_name(f"c1.log.20260102-{len(rotated):06}")))
        await node.outputs.reopen("c1")
        size = rotated[-1].stat().st_size
        await asyncio.sleep(0.03)  # some output goes to each file
        assert rotated[-1].stat().st_size == size
    shim.end()
    await node.outputs.finish("c1", SOON_SECONDS)
    assert len(rotated) > 10
    assert printed(*rotated, node.log("c1")) == numbers(1, 600_000)


@pytest.mark.behaviour("LOG-21")
async def test_the_log_of_a_finished_container_cannot_be_reopened(node: Node) -> None:
    shim = await node.container("c1")
    shim.end()
    await node.outputs.finish("c1", SOON_SECONDS)
    node.log("c1").unlink()
    with pytest.raises(FailedPrecondition, match="not running"):
        await node.outputs.reopen("c1")
    await node.outputs.forget("c1")
    with pytest.raises(NotFound):
        await node.outputs.reopen("c1")
    assert not node.log("c1").exists()


async def test_a_container_that_never_started_is_forgotten(node: Node) -> None:
    shim = Shim(node.directory / "c1")
    await node.outputs.open("c1", str(node.log("c1")), shim.stdout, shim.stderr)
    await node.outputs.forget("c1")
    await node.outputs.forget("c1")
    assert node.left() == ["lock"]
    assert node.outputs.known() == frozenset()


@pytest.mark.behaviour("LOG-08")
async def test_without_a_path_output_is_drained(node: Node) -> None:
    shim = await node.container("c1", keep=False)
    await exited(shim.spawn("head -c 20M /dev/zero; head -c 3M /dev/zero >&2"))
    shim.end()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert node.outputs.counters.read_bytes == 23 << 20


@pytest.mark.behaviour("CST-11")
async def test_the_next_process_goes_on_in_the_middle_of_a_line(node: Node) -> None:
    shim = await node.container("c1")
    shim.print(b"one\ntw")
    shim.print(b"e", 2)
    await node.arrives("c1", 1)
    await node.outputs.close()
    await node.outputs.close()
    shim.print(b"o\nthr")
    await node.restart()
    assert node.outputs.known() == {"c1"}
    shim.print(b"ee\n")
    shim.print(b"rr\n", 2)
    shim.end()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log("c1")) == b"one\ntwo\nthree\n"
    assert printed(node.log("c1"), stream="stderr") == b"err\n"


async def test_fifos_that_were_kept_open_are_used_when_their_paths_are_gone(node: Node) -> None:
    shim = await node.container("c1")
    kept = {name: os.dup(fd) for name, fd in (await node.outputs.open_fifos()).items()}
    assert sorted(kept) == ["output-c1", "output-c1-1"]
    await node.outputs.close()
    shim.print(b"while away\n")
    shim.print(b"err\n", 2)
    shim.end()
    shim.stdout.unlink()
    await node.restart(inherited=kept)
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log("c1")) == b"while away\n"
    assert printed(node.log("c1"), stream="stderr") == b"err\n"


async def test_streams_that_are_gone_for_good_end_with_what_had_been_taken(node: Node) -> None:
    shim = await node.container("c1")
    shim.print(b"one\ntorn")
    await node.arrives("c1", 1)
    await node.outputs.close()
    shim.end()
    shim.stdout.unlink()
    shim.stderr.unlink()  # type: ignore[union-attr]
    await node.restart()
    assert await node.outputs.finish("c1", SOON_SECONDS)
    assert printed(node.log("c1")) == b"one\ntorn"


async def test_two_processes_do_not_share_a_state_directory(node: Node) -> None:
    other = ContainerOutputs(node.state)
    with pytest.raises(FailedPrecondition, match="another process"):
        await other.start()
    await node.outputs.close()
    with pytest.raises(Unavailable):
        await node.outputs.reopen("c1")
    await other.start()
    await other.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the descriptors of hundreds of containers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_idle_containers_cost_nothing(node: Node) -> None:
    for n in range(200):
        await node.container(f"c{n}")
    before = time.process_time()
    await asyncio.sleep(1)
    assert time.process_time() - before < 0.03


async def test_busy_containers_share(node: Node) -> None:
    writers = [(await node.container(f"c{n}")).spawn("exec yes a line of a busy container") for n in range(20)]
    for n in range(20):
        await node.arrives(f"c{n}", 1)
    before = [node.log(f"c{n}").stat().st_size for n in range(20)]
    async with asyncio.timeout(60):
        while node.log("c0").stat().st_size < before[0] + 20_000_000:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    shares = sorted(node.log(f"c{n}").stat().st_size - before[n] for n in range(20))
    for writer in writers:
        writer.kill()
        writer.wait()
    assert shares[0] > shares[-1] / 4
