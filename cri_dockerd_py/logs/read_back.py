"""Reads CRI log files back, rotated ones included, for `docker logs`: since, until and tail."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cri_dockerd_py.logs.cri_format import parse_line, parse_time_ns
from cri_dockerd_py.logs.docker_entry import encode_entry

_BATCH_BYTES = 64 << 10
_GO_ZERO_TIME = "0001-01-01T00:00:00Z"
_ROTATED = re.compile(r"\.(\d{8}-\d{6})(\.gz)?")


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What Docker's logs call asks for; `tail_lines` is None for all."""

    since_ns: int
    until_ns: int | None
    tail_lines: int | None
    follow: bool

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ReadRequest:
        """From the `Config` of a ReadLogs request."""
        since, until = (_request_time(config.get(key)) for key in ("Since", "Until"))
        tail = config.get("Tail")
        return cls(since or 0, until, tail if isinstance(tail, int) and tail >= 0 else None, bool(config.get("Follow")))

    def wants(self, time_ns: int) -> bool:
        """Whether an entry of this time is asked for."""
        return time_ns >= self.since_ns and (self.until_ns is None or time_ns <= self.until_ns)


def _request_time(text: object) -> int | None:
    if not isinstance(text, str) or text in ("", _GO_ZERO_TIME):
        return None
    return parse_time_ns(text.encode())


def log_files(path: Path) -> list[Path]:
    """The log's files, oldest first: what rotation has set aside, then the current one."""
    rotated = []
    try:
        for entry in os.scandir(path.parent):
            match = _ROTATED.fullmatch(entry.name.removeprefix(path.name))
            if entry.name.startswith(path.name) and match:
                rotated.append((match[1], path.parent / entry.name))
    except OSError:
        return []
    return [file for _, file in sorted(rotated)] + ([path] if path.exists() else [])


def open_log(file: Path) -> IO[bytes]:
    """Open a log file, unpacking a compressed one."""
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def opened_tail(path: Path, tail_lines: int | None) -> list[IO[bytes]]:
    """The files that hold the last `tail_lines` lines, oldest first, the first one placed at where they begin."""
    opened: list[IO[bytes]] = []
    for file in reversed(log_files(path)):
        try:
            stream = open_log(file)
        except OSError:
            continue
        opened.insert(0, stream)
        if tail_lines is not None:
            lines = _count_lines(stream)
            stream.seek(0)
            for _ in range(lines - tail_lines):
                stream.readline()
            tail_lines -= min(lines, tail_lines)
            if tail_lines <= 0:
                break
    return opened


def _count_lines(stream: IO[bytes]) -> int:
    return sum(block.count(b"\n") for block in iter(lambda: stream.read(_BATCH_BYTES), b""))


def frames(stream: IO[bytes], request: ReadRequest) -> Iterator[bytes]:
    """What is whole in `stream` from where it stands, as batches of Docker's frames."""
    batch: list[bytes] = []
    size = 0
    while True:
        line = stream.readline()
        if not line.endswith(b"\n"):
            stream.seek(-len(line), os.SEEK_CUR)  # a line still being written is read the next time
            break
        entry = parse_line(line[:-1])
        if entry is None or not request.wants(entry.time_ns):
            continue
        batch.append(encode_entry(entry))
        size += len(batch[-1])
        if size >= _BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)
