"""What processes hold open."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cri_dockerd_py.cgroups.processes import MAX_PROCESSES, count_open, open_files_limit

CODE = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (321, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
sockets = [socket.socket() for _ in range(4)]
files = [open("/dev/null") for _ in range(3)]
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process() -> Iterator[int]:
    """A process with three standard streams, four sockets and three files."""
    child = subprocess.Popen([sys.executable, "-S", "-E", "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    yield child.pid
    child.communicate()


def test_counts(process: int) -> None:
    """Descriptors and sockets of all given processes are added up."""
    figures = count_open([process, process])

    assert (figures.processes, figures.file_descriptors, figures.sockets) == (2, 20, 8)
    assert figures.complete


def test_soft_limit(process: int) -> None:
    """The limit is the process's own."""
    assert open_files_limit(process) == 321
    assert open_files_limit(os.getpid()) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_process_that_is_gone_counts_as_having_nothing() -> None:
    """It may end between the listing and the look."""
    gone = 2**22 + 1

    assert count_open([gone]).file_descriptors == 0
    assert open_files_limit(gone) is None


def test_the_work_is_bounded(process: int) -> None:
    """A container with very many processes costs no more than the bound, and says that it was cut short."""
    figures = count_open([process] * (MAX_PROCESSES + 1))

    assert figures.processes == MAX_PROCESSES + 1
    assert figures.file_descriptors == 10 * MAX_PROCESSES
    assert not figures.complete
