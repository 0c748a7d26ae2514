"""Status files under writers that meet, and where there is no room."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.status_file import ContainerStatus, read_status
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.errors import ResourceExhausted

ID = "ab" * 32
STATUS = ContainerStatus(1)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory without any room."""
    target = tmp_path / "full"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4096,nr_inodes=2", "tmpfs", target], check=True)
    (target / "filler").write_bytes(bytes(4096))
    yield target
    subprocess.run(["umount", target], check=True)


async def test_the_newest_status_is_on_file_whoever_writes_when(tmp_path: Path) -> None:
    paths = EnginePaths(tmp_path / "root", tmp_path / "state")
    statuses = Statuses(paths)
    for number in range(100):
        started, ended = replace(STATUS, started_at_ns=number + 1), replace(STATUS, finished_at_ns=number + 1)
        await asyncio.gather(statuses.put(ID, started), statuses.put(ID, ended))
        assert read_status(paths.status(ID)) == ended


async def test_what_has_happened_is_known_although_it_cannot_be_written(full_disk: Path) -> None:
    statuses = Statuses(EnginePaths(full_disk, full_disk))
    with pytest.raises(ResourceExhausted, match="status of container ab"):
        await statuses.put(ID, STATUS)
    await statuses.note(ID, replace(STATUS, exit_code=3))
