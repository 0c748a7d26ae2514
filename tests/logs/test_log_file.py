"""Opening a log file without being led astray by what is in its directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument
from cri_dockerd_py.logs.log_file import LogFile, check_path


@pytest.mark.parametrize("path", ["", "relative/0.log", "/a/../b", "/a/..", "/a/", "/a\0b"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match="log path"):
        check_path(path)


def test_a_good_path_is_taken_as_it_is() -> None:
    assert check_path("/var/log/pods/a..b/0.log") == Path("/var/log/pods/a..b/0.log")


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target, path = tmp_path / "shadow", tmp_path / "0.log"
    target.write_text("secret")
    path.symlink_to(target)
    log = LogFile.open(path)
    assert log.append(b"line\n") == 5
    assert (target.read_text(), path.read_text(), path.is_symlink()) == ("secret", "line\n", False)


def test_a_dangling_link_creates_nothing_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "0.log").symlink_to(tmp_path / "elsewhere")
    LogFile.open(tmp_path / "0.log")
    assert not (tmp_path / "elsewhere").exists()


def test_neither_a_fifo_nor_a_directory_nor_a_socket_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    os.mknod(tmp_path / "device", 0o600 | 0o020000, os.makedev(1, 3))
    for name in ("fifo", "directory", "device"):
        with pytest.raises(FailedPrecondition, match=name):
            LogFile.open(tmp_path / name)


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "0.log").write_text("before\n")
    log = LogFile.open(tmp_path / "0.log")
    assert log.length == 7
    log.append(b"after\n")
    assert (tmp_path / "0.log").read_text() == "before\nafter\n"


@pytest.mark.behaviour("LOG-20")
def test_a_reopen_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile.open(path)
    path.rename(tmp_path / "0.log.old")
    path.mkdir()
    with pytest.raises(FailedPrecondition):
        log.reopen()
    log.append(b"line\n")
    assert (tmp_path / "0.log.old").read_text() == "line\n"


@pytest.mark.parametrize("there", ["", "one\n", "one\ntw", "one\ntwo\n", "other"])
def test_resume_completes_what_a_kill_cut_off(tmp_path: Path, there: str) -> None:
    path = tmp_path / "0.log"
    path.write_text("zero\n" + there)
    log = LogFile.open(path)
    assert log.resume(5, b"one\ntwo\n") == 8
    assert path.read_text() == "zero\none\ntwo\n"
    assert log.length == len("zero\none\ntwo\n")


def test_a_file_is_found_by_its_inode_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile.open(path)
    path.rename(tmp_path / "0.log.20260102-030405")
    found = LogFile.find(path, log.device, log.inode)
    assert found is not None
    found.append(b"line\n")
    assert (tmp_path / "0.log.20260102-030405").read_text() == "line\n"
    (tmp_path / "0.log.20260102-030405").unlink()
    assert LogFile.find(path, log.device, log.inode) is None
