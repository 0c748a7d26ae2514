"""Reading small files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.files import KeptFile, read_all, read_number, read_once


@pytest.mark.parametrize(("text", "value"), [("12\n", 12), ("max\n", None), ("", None), ("1 2\n", None)])
def test_numbers(tmp_path: Path, text: str, value: int | None) -> None:
    """Only a number is one."""
    (tmp_path / "file").write_text(text)

    assert read_number(str(tmp_path / "file")) == value
    assert KeptFile(str(tmp_path / "file")).number() == value


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Absent files and directories are no errors."""
    for path in (tmp_path / "absent", tmp_path):
        assert read_once(str(path)) is None
        assert read_all(str(path)) is None
        assert KeptFile(str(path)).read() is None


def test_long_files_are_read_whole_up_to_the_limit(tmp_path: Path) -> None:
    """More than one read's worth comes back in one piece."""
    (tmp_path / "file").write_bytes(b"x" * 100_000)

    assert len(read_all(str(tmp_path / "file")) or b"") == 100_000
    assert len(read_all(str(tmp_path / "file"), limit_bytes=20_000) or b"") < 100_000


def test_a_kept_file_shows_the_present(tmp_path: Path) -> None:
    """It is read anew each time without being opened anew, and gives its descriptor back."""
    path = tmp_path / "file"
    path.write_text("1\n")
    kept = KeptFile(str(path))
    assert kept.number() == 1
    path.write_text("2\n")
    before = len(os.listdir("/proc/self/fd"))

    assert kept.number() == 2
    assert kept.is_open
    kept.close()
    kept.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
