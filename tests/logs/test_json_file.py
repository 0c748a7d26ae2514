"""The json-file setting: links as dockershim made them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.logs.json_file import link_json_log, unlink_json_log


def test_the_log_path_becomes_a_link_whatever_was_there(tmp_path: Path) -> None:
    link = tmp_path / "pod" / "0.log"
    for target in ("/docker/a-json.log", "/docker/b-json.log"):
        assert link_json_log(str(link), target)
        assert str(link.readlink()) == target
    link.unlink()
    link.write_text("a file")
    assert link_json_log(str(link), "/docker/c-json.log")
    assert str(link.readlink()) == "/docker/c-json.log"
    assert [file.name for file in link.parent.iterdir()] == ["0.log"]


def test_without_both_paths_or_with_a_directory_nothing_happens(tmp_path: Path) -> None:
    assert not link_json_log("", "/docker/a-json.log")
    assert not link_json_log(str(tmp_path / "0.log"), "")
    assert not link_json_log(str(tmp_path), "/docker/a-json.log")
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_cannot_be_made_is_told_as_what_it_is(tmp_path: Path) -> None:
    link = tmp_path / "0.log"
    (tmp_path / ".0.log.link").mkdir()
    with pytest.raises(FailedPrecondition, match=f"cannot link log file {link} to Docker's: Is a directory"):
        link_json_log(str(link), "/docker/a-json.log")


def test_only_a_link_is_removed(tmp_path: Path) -> None:
    link = tmp_path / "0.log"
    link_json_log(str(link), "/docker/a-json.log")
    unlink_json_log(str(link))
    unlink_json_log(str(link))
    unlink_json_log("")
    assert not link.is_symlink()
    link.write_text("a file")
    unlink_json_log(str(link))
    assert link.exists()
