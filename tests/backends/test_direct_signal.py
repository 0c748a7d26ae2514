from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.backends.direct_signal import send_signal


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs until it is killed."""
    with subprocess.Popen(["sleep", "300"]) as running:
        yield running
        running.kill()


def test_a_process_whose_cgroup_has_the_name_gets_the_signal(process: subprocess.Popen[bytes]) -> None:
    cgroup = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()[0]
    assert send_signal(process.pid, cgroup, signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_any_other_process_is_left_alone(process: subprocess.Popen[bytes]) -> None:
    assert not send_signal(process.pid, "a" * 64, signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)


@pytest.mark.parametrize("pid", [-1, 0, 2**31 - 1])
def test_no_process(pid: int) -> None:
    assert not send_signal(pid, "", signal.SIGKILL)


def test_no_signal(process: subprocess.Popen[bytes]) -> None:
    assert not send_signal(process.pid, "", 1000)
