"""What the service leaves on the disk while it serves a pod: nobody but root, and who may use CRI, can open it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.behaviour.client import Pod
from tests.behaviour.conftest import OWN_SERVICE
from tests.cri_server import CriServer

pytestmark = OWN_SERVICE
_OTHERS = stat.S_IRWXO


def _open_to_others(directory: Path) -> Iterator[Path]:
    """Yield what other users can reach; a directory that they cannot enter hides what is in it."""
    found = directory.lstat()
    if stat.S_ISLNK(found.st_mode) or directory.is_mount():
        return
    if stat.S_ISDIR(found.st_mode):
        if found.st_mode & stat.S_IXOTH:
            for name in os.listdir(directory):
                yield from _open_to_others(directory / name)
    elif found.st_mode & _OTHERS:
        yield directory


def test_state_and_sockets_and_logs_are_closed_to_others(cri_server: CriServer, pod: Pod) -> None:
    container = pod.start("sh", "-c", "echo said; sleep 1000")
    container.exec("true")
    assert container.log_path.stat().st_mode & 0o777 == 0o640
    assert cri_server.socket.stat().st_mode & 0o777 == 0o660
    databases = list(cri_server.root_dir.rglob("*.db"))
    assert databases
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in databases)
    for directory in (cri_server.root_dir, cri_server.state_dir):
        assert directory.is_dir()
        assert not list(_open_to_others(directory))
