"""From two raw FIFOs to one log file: exactly once at every kill, also at the end of the streams."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from cri_dockerd_py.logs.container_log import ContainerLog
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.cri_format import Entry, parse_line
from cri_dockerd_py.logs.raw_stream import RawStream
from cri_dockerd_py.logs.source import open_fifo
from tests.logs.crashes import MOMENTS, Moment, run_and_kill

STREAMS = ("stdout", "stderr")
CHUNK_BYTES = 8192


def output(stream: str) -> bytes:
    """Numbered lines, a long one among them, and a last one without an end."""
    lines = [b"%b %04d %b" % (stream.encode(), n, b"x" * (20_000 if n == 100 else 60)) for n in range(200)]
    return b"\n".join([*lines, b"and no newline at the end"])


def no_end() -> None:
    raise AssertionError("the FIFO has a writer")


class Stage:
    """Two FIFOs held open by their writer, as a shim does."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.state = directory / "state"
        self.state.mkdir()
        self.log_path = directory / "pod" / "0.log"
        self.fifos = [directory / stream for stream in STREAMS]
        for fifo in self.fifos:
            os.mkfifo(fifo)
        self.writers = [os.open(fifo, os.O_RDWR | os.O_NONBLOCK) for fifo in self.fifos]

    def print(self, part: slice) -> None:
        """The process prints the same part of both outputs."""
        for writer, stream in zip(self.writers, STREAMS, strict=True):
            data = output(stream)[part]
            assert os.write(writer, data) == len(data)

    def work(self, *, finish: bool = False, rotate: bool = False) -> None:
        """What one process of the service does with what is in the FIFOs."""
        log = ContainerLog("c0", self.state, self.log_path, Counters(), chunk_bytes=CHUNK_BYTES)
        decoders = {index: RawStream(stream) for index, stream in enumerate(STREAMS)}
        log.recover(decoders)
        log.open_file()
        sources = [
            log.add_source(str(fifo), open_fifo(str(fifo)), decoders[index], index)
            for index, fifo in enumerate(self.fifos)
        ]
        for source in sources:
            log.turn(source, no_end)
        if rotate:
            rotated = self.log_path.with_name("0.log.20260102-030405")
            if not rotated.exists():
                self.log_path.rename(rotated)
            log.reopen()
        for source in sources if finish else ():
            log.drain(source)

    def entries(self) -> list[Entry]:
        """The log's entries, rotated file first; a torn line fails."""
        files = sorted(self.log_path.parent.iterdir(), key=lambda file: file.name == self.log_path.name)
        text = b"".join(file.read_bytes() for file in files)
        parsed = [parse_line(line) for line in text.split(b"\n")[:-1]]
        assert None not in parsed
        return [entry for entry in parsed if entry is not None]

    def printed(self, stream: str) -> bytes:
        """What the log says that a stream printed."""
        entries = [entry for entry in self.entries() if entry.stream == stream]
        return b"".join(entry.content + (b"" if entry.partial else b"\n") for entry in entries)

    def close(self) -> None:
        for writer in self.writers:
            os.close(writer)


@pytest.mark.behaviour("LOG-20", "CST-11", "LOG-02", "LOG-06")
@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_file_operation_loses_and_doubles_nothing(tmp_path: Path, moment: Moment, rotate: bool) -> None:
    operation, killed = 0, True
    while killed:
        operation += 1
        stage = Stage(tmp_path / str(operation))
        stage.print(slice(0, 9_050))
        killed = run_and_kill(stage.work, operation, moment)
        stage.print(slice(9_050, None))
        killed |= run_and_kill(partial(stage.work, finish=True, rotate=rotate), operation, moment)
        run_and_kill(partial(stage.work, finish=True), operation + 3, moment)
        stage.work(finish=True)
        for stream in STREAMS:
            assert stage.printed(stream) == output(stream), f"killed {moment} operation {operation}"
        times = [entry.time_ns for entry in stage.entries()]
        assert times == sorted(times)
        stage.close()
    assert operation > 20


def test_a_line_without_an_end_is_written_once_it_is_longer_than_a_piece(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    os.write(stage.writers[0], b"p" * 20_000)
    stage.work()
    assert [(entry.partial, len(entry.content)) for entry in stage.entries()] == [(True, 16_384)]
    os.write(stage.writers[0], b"q\n")
    stage.work()
    assert [(entry.partial, len(entry.content)) for entry in stage.entries()] == [(True, 16_384), (False, 3_617)]
    stage.close()
