"""Instances on one node keep apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from cri_dockerd_py.daemon.instance import instance_name, log_driver_name, sole_use
from cri_dockerd_py.errors import CriError, FailedPrecondition
from cri_dockerd_py.settings import Settings


def test_names_follow_the_root_directory() -> None:
    assert instance_name(Path("/a")) == instance_name(Path("/a")) != instance_name(Path("/b"))


def test_the_log_driver_is_named_after_the_instance_unless_it_is_set() -> None:
    assert log_driver_name(Settings()) == "cri-dockerd-py"
    assert log_driver_name(Settings(log_driver_name="mine")) == "mine"
    elsewhere = log_driver_name(Settings(root_dir=Path("/a")))
    assert elsewhere.startswith("cri-dockerd-py-")
    assert elsewhere != log_driver_name(Settings(root_dir=Path("/b")))


def test_a_root_directory_serves_one_process_at_a_time(tmp_path: Path) -> None:
    root_dir = tmp_path / "root"
    with sole_use(root_dir), pytest.raises(FailedPrecondition, match=f"{root_dir}; stop it"), sole_use(root_dir):
        pass
    with sole_use(root_dir):
        pass


def test_nobody_else_can_hold_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch(0o644)
    with sole_use(tmp_path):
        assert lock.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", [Path("/proc/self/status/root"), Path("/sys/cri-dockerd-py")])
def test_a_directory_that_cannot_be_made_is_named(place: Path) -> None:
    with pytest.raises(CriError, match=f"root directory {place} cannot be used"), sole_use(place):
        pass
