"""From FIFO to log file: exactly once at every kill, rotation, disks that fill up, files that others touch."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.logs.container_log import ContainerLog
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.docker_frames import DockerFrames
from cri_dockerd_py.logs.source import Source, open_fifo
from tests.logs.crashes import MOMENTS, Moment, run_and_kill
from tests.logs.frames import Message, frame, numbered

CHUNK_BYTES = 8192  # small, so that a little output is several chunks


class Stage:
    """A FIFO held open by its writer, as dockerd does, and the files of one container's log."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        self.log_path = directory / "pod" / "0.log"
        self.fifo_path = directory / "fifo"
        os.mkfifo(self.fifo_path)
        self.writer = os.open(self.fifo_path, os.O_RDWR | os.O_NONBLOCK)
        self.counters = Counters()

    def print(self, data: bytes) -> None:
        assert os.write(self.writer, data) == len(data)

    def open(self, path: Path | None = None) -> tuple[ContainerLog, Source]:
        log = ContainerLog("c0", self.state, path or self.log_path, self.counters, chunk_bytes=CHUNK_BYTES)
        log.recover({0: DockerFrames()})
        log.open_file()
        return log, log.add_source(str(self.fifo_path), open_fifo(str(self.fifo_path)), DockerFrames())

    def numbers(self) -> list[int]:
        """The numbers in the log, rotated file first; a torn line fails."""
        files = sorted(self.log_path.parent.iterdir(), key=lambda file: file.name == self.log_path.name)
        lines = [line for file in files for line in file.read_bytes().split(b"\n")[:-1]]
        assert all(file.read_bytes()[-1:] in (b"", b"\n") for file in files)
        assert all(len(line) == len(lines[0]) for line in lines)
        return [int(line.split(b" ")[3]) for line in lines]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    os.close(stage.writer)


def no_end() -> None:
    raise AssertionError("the FIFO has a writer")


def work_through(stage: Stage, rotate: bool) -> Callable[[], None]:
    """What one process of the service does with what is in the FIFO."""

    def work() -> None:
        log, source = stage.open()
        log.turn(source, no_end)
        if rotate:
            rotated = stage.log_path.with_name("0.log.20260102-030405")
            if not rotated.exists():
                stage.log_path.rename(rotated)
            log.reopen()
            log.turn(source, no_end)

    return work


@pytest.mark.behaviour("LOG-20", "CST-11")
@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_file_operation_loses_and_doubles_nothing(tmp_path: Path, moment: Moment, rotate: bool) -> None:
    operation, killed = 0, True
    while killed:
        operation += 1
        directory = tmp_path / str(operation)
        directory.mkdir()
        stage = Stage(directory)
        data = numbered(0, 300)
        stage.print(data[:20_050])
        killed = run_and_kill(work_through(stage, rotate=False), operation, moment)
        stage.print(data[20_050:])
        killed |= run_and_kill(work_through(stage, rotate), operation, moment)
        run_and_kill(work_through(stage, rotate), operation + 3, moment)
        work_through(stage, rotate=False)()
        assert stage.numbers() == list(range(300)), f"killed {moment} operation {operation}"
        os.close(stage.writer)
    assert operation > 10


@pytest.mark.behaviour("LOG-07")
def test_lines_are_in_the_file_after_a_turn(stage: Stage) -> None:
    log, source = stage.open()
    stage.print(numbered(0, 3))
    log.turn(source, no_end)
    assert stage.numbers() == [0, 1, 2]
    assert (stage.counters.written_lines, stage.counters.dropped_lines) == (3, 0)
    assert stage.counters.written_bytes == stage.log_path.stat().st_size
    assert stage.log_path.stat().st_mode & 0o777 == 0o640


def test_a_frame_larger_than_the_pipe_arrives_whole(stage: Stage) -> None:
    log, source = stage.open()
    data = frame(Message(b"L" * 16_000))
    for start in range(0, len(data), 4000):
        stage.print(data[start : start + 4000])
        log.turn(source, no_end)
    assert stage.log_path.read_bytes().endswith(b" stdout F " + b"L" * 16_000 + b"\n")


def test_a_writer_that_dies_ends_the_source_after_its_last_line(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    log, source = stage.open()
    stage.print(numbered(0, 5) + frame(Message(b"torn here"))[:-4])
    os.close(stage.writer)
    ended: list[bool] = []
    while not ended:
        log.turn(source, lambda: ended.append(True))
    log.drain(source)
    lines = stage.log_path.read_bytes().splitlines()
    assert [line.split(b" ")[2] for line in lines] == [b"F"] * 5 + [b"P"]
    assert lines[-1].endswith(b" torn ")


@pytest.mark.behaviour("LOG-08")
def test_without_a_path_the_fifo_is_drained_and_nothing_written(stage: Stage) -> None:
    log = ContainerLog("c0", stage.state, None, stage.counters)
    source = log.add_source(str(stage.fifo_path), open_fifo(str(stage.fifo_path)), DockerFrames())
    stage.print(numbered(0, 400))
    log.turn(source, no_end)
    with pytest.raises(BlockingIOError):
        os.read(stage.writer, 1)
    assert not stage.log_path.exists()
    assert stage.counters.read_bytes == len(numbered(0, 400))


@pytest.mark.behaviour("LOG-20")
def test_after_a_rotation_nothing_goes_to_the_old_file(stage: Stage) -> None:
    log, source = stage.open()
    stage.print(numbered(0, 10))
    log.turn(source, no_end)
    old = stage.log_path.with_name("0.log.20260102-030405")
    stage.log_path.rename(old)
    stage.print(numbered(10, 10))
    log.turn(source, no_end)  # before the reopen, the renamed file goes on
    log.reopen()
    size = old.stat().st_size
    stage.print(numbered(20, 10))
    log.turn(source, no_end)
    assert old.stat().st_size == size
    assert stage.log_path.stat().st_mode & 0o777 == 0o640
    assert stage.numbers() == list(range(30))
    assert stage.counters.rotations == 1


@pytest.mark.behaviour("LOG-22", "LOG-23")
def test_reopen_makes_a_missing_file_and_its_directory_and_may_be_repeated(stage: Stage) -> None:
    log, source = stage.open()
    stage.log_path.unlink()
    stage.log_path.parent.rmdir()
    log.reopen()
    log.reopen()
    stage.print(numbered(0, 1))
    log.turn(source, no_end)
    assert stage.numbers() == [0]


def test_a_service_that_died_while_kubelet_renamed_the_file_goes_on_in_it(stage: Stage) -> None:
    log, source = stage.open()
    stage.print(numbered(0, 10))
    log.turn(source, no_end)
    log.close()
    stage.log_path.rename(stage.log_path.with_name("0.log.20260102-030405"))
    log, source = stage.open()
    stage.print(numbered(10, 10))
    log.turn(source, no_end)
    assert not stage.log_path.exists()
    assert stage.numbers() == list(range(20))


def test_a_service_that_died_between_making_the_new_file_and_using_it_goes_on_in_the_new_one(stage: Stage) -> None:
    log, source = stage.open()
    stage.print(numbered(0, 10))
    log.turn(source, no_end)
    log.close()
    stage.log_path.rename(stage.log_path.with_name("0.log.20260102-030405"))
    stage.log_path.touch()
    log, source = stage.open()
    stage.print(numbered(10, 10))
    log.turn(source, no_end)
    assert stage.log_path.read_bytes().count(b"\n") == 10
    assert stage.numbers() == list(range(20))


def test_a_file_put_in_the_place_of_a_deleted_one_is_used(stage: Stage) -> None:
    log, source = stage.open()
    stage.log_path.unlink()
    stage.log_path.touch()
    stage.print(numbered(0, 2))
    log.turn(source, no_end)
    assert stage.numbers() == [0, 1]


@pytest.mark.parametrize("operation", range(1, 14))
def test_a_file_that_others_truncate_is_written_on_and_recovers(stage: Stage, operation: int) -> None:
    log, source = stage.open()
    stage.print(numbered(0, 100))
    log.turn(source, no_end)
    os.truncate(stage.log_path, 0)
    log.close()
    stage.print(numbered(100, 10))
    run_and_kill(work_through(stage, rotate=False), operation, "after")
    work_through(stage, rotate=False)()
    assert stage.numbers() == list(range(100, 110))


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """A file system with hardly any room."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.behaviour("LOG-09")
def test_a_full_disk_drops_whole_lines_and_resumes(stage: Stage, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as disk:
        log, source = stage.open(disk / "0.log")
        for start in range(0, 1000, 500):
            stage.print(numbered(start, 500))
            log.turn(source, no_end)
        written = (disk / "0.log").read_bytes()
        assert written.endswith(b"\n")
        kept = [int(line.split(b" ")[3]) for line in written.splitlines()]
        assert kept == list(range(len(kept)))
        assert 400 < len(kept) < 1000
        assert stage.counters.written_lines == len(kept)
        assert stage.counters.dropped_lines == 1000 - len(kept)
        os.truncate(disk / "0.log", 0)
        stage.print(numbered(5000, 10))
        log.turn(source, no_end)
        assert len((disk / "0.log").read_bytes().splitlines()) == 10
        log.close()


@pytest.mark.behaviour("LOG-09")
def test_no_room_for_the_spool_does_not_stall_or_lose(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as disk:
        stage = Stage(disk)
        stage.log_path = tmp_path / "pod" / "0.log"
        log, source = stage.open()
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(filler, b"x" * 4096):
                pass
        data = numbered(0, 300)
        stage.print(data[:10_001])
        log.turn(source, no_end)
        stage.print(data[10_001:])
        log.turn(source, no_end)
        assert stage.numbers() == list(range(300))
        assert stage.counters.failures > 0
        os.close(filler)
        os.unlink(disk / "filler")
        stage.print(numbered(300, 10))
        log.turn(source, no_end)
        assert stage.numbers() == list(range(310))
        log.close()
        os.close(stage.writer)
