"""What containerd's shim does with a container's output FIFOs, and processes that print a lot."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.logs.cri_format import parse_line

_KINDS = {(stream, tag) for stream in (b"stdout", b"stderr") for tag in (b"F", b"P")}


class Shim:
    """Holds both ends of each FIFO, so that the FIFO outlives its reader; the process's output goes through it."""

    def __init__(self, directory: Path, *, tty: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.stdout = directory / "stdout"
        self.stderr = None if tty else directory / "stderr"
        self.fds: list[int] = []
        for fifo in self._fifos():
            os.mkfifo(fifo, 0o700)

    def _fifos(self) -> list[Path]:
        return [self.stdout] if self.stderr is None else [self.stdout, self.stderr]

    def start(self) -> None:
        """The task is created: somebody must be reading already."""
        for fifo in self._fifos():
            self.fds.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        for fifo in self._fifos():
            self.fds.append(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))

    def print(self, data: bytes, stream: int = 1) -> None:
        """The process prints something that the pipe has room for."""
        assert os.write(self.fds[stream - 1], data) == len(data)

    def spawn(self, script: str) -> subprocess.Popen[bytes]:
        """A process that prints to the container's stdout (and stderr)."""
        with self.stdout.open("wb") as out, (self.stderr or self.stdout).open("wb") as err:
            return subprocess.Popen(["bash", "-c", script], stdout=out, stderr=err)

    def end(self) -> None:
        """All of the container's processes are gone, and all that they printed was passed on."""
        for fd in self.fds:
            with suppress(OSError):
                os.close(fd)
        self.fds.clear()


def printed(*files: Path, stream: str = "stdout") -> bytes:
    """What a stream printed, by its log files in order; a line that is no CRI log line fails, or times that go back."""
    parts, last = [], b""
    for file in files:
        *lines, rest = file.read_bytes().split(b"\n")
        assert rest == b"", f"{file} ends in a torn line"
        for line in lines:
            time, name, tag, content = line.split(b" ", 3)
            if time != last:
                assert parse_line(line) is not None, f"{file} has the line {line!r}"
                assert time > last, f"the times go back from {last!r} to {time!r}"
                last = time
            assert (name, tag) in _KINDS, f"{file} has the line {line!r}"
            if name == stream.encode():
                parts += [content] if tag == b"P" else [content, b"\n"]
    return b"".join(parts)


def numbers(first: int, last: int) -> bytes:
    """What `seq first last` prints."""
    return b"".join(b"%d\n" % n for n in range(first, last + 1))
