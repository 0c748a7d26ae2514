"""The admin socket of a node in memory, and the command line for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Daemon, answers, erase, private_directory

PROGRAM = Path(sys.executable).parent / "cri-dockerd-py"
REPOSITORY = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with an empty config file."""
    directory = private_directory("a")
    (directory / "config.toml").touch()
    yield directory
    erase(directory)


@pytest.fixture
def socket(directory: Path) -> Path:
    return directory / "admin" / "a.sock"


@pytest.fixture
def service(directory: Path, socket: Path) -> Iterator[Daemon]:
    """A served node with three pods of a Deployment and one of a Job."""
    command = [sys.executable, "-m", "tests.admin.serve_fake", str(socket), str(directory / "state.db")]
    daemon = Daemon(command, directory / "serve.log", {"PYTHONPATH": str(REPOSITORY)})
    daemon.start(lambda: answers(socket))
    yield daemon
    daemon.stop()


@pytest.fixture
def run(directory: Path, socket: Path) -> Run:
    """A function that runs a command against the socket."""

    def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        where = [f"--admin-endpoint=unix://{socket}", f"--config={directory}/config.toml"]
        return subprocess.run([PROGRAM, *words, *where], capture_output=True, text=True, input=text, timeout=60)

    return run
