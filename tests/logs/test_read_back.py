"""Which files make up a log, and reading what is whole in them."""

from __future__ import annotations

import gzip
from pathlib import Path

from cri_dockerd_py.logs.read_back import ReadRequest, frames, log_files, opened_tail

ALL = ReadRequest(0, None, None, follow=False)
LINE = b"2026-01-02T03:04:05Z stdout F <%d>\n"


def test_rotated_files_come_first_compressed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for name in ("0.log.20260102-000000", "0.log", "0.log.20260101-000000.gz", "10.log", "0.log.tmp"):
        (tmp_path / name).touch()
    assert [file.name for file in log_files(path)] == ["0.log.20260101-000000.gz", "0.log.20260102-000000", "0.log"]
    assert log_files(tmp_path / "absent" / "0.log") == []


def test_a_tail_reaches_into_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(LINE % n for n in range(100, 150)))
    with gzip.open(tmp_path / "0.log.20260101-000000.gz", "wb") as packed:
        packed.write(b"".join(LINE % n for n in range(100)))
    streams = opened_tail(path, 60)
    data = b"".join(batch for stream in streams for batch in frames(stream, ALL))
    for stream in streams:
        stream.close()
    assert [n for n in range(150) if b"<%d>\n" % n in data] == list(range(90, 150))


def test_an_unfinished_line_is_read_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LINE % 1 + b"2026-01-02T03:04:05Z std")
    with path.open("rb") as stream, path.open("ab") as writer:
        assert b"".join(frames(stream, ALL)).count(b"\x1a") == 1
        assert b"".join(frames(stream, ALL)) == b""
        writer.write(b"out F <2>\n")
        writer.flush()
        assert b"<2>\n" in b"".join(frames(stream, ALL))


def test_lines_of_another_format_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"rubbish\n" + LINE % 7 + b"\n")
    with path.open("rb") as stream:
        assert b"".join(frames(stream, ALL)).endswith(b"<7>\n")
