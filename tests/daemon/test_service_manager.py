"""What is said to systemd, and what comes from it."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.daemon.service_manager import ServiceManager
from tests.processes import Daemon, wait_until

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def manager_socket(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


@pytest.fixture
def manager(manager_socket: socket.socket) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": manager_socket.getsockname()})


def test_states_are_told(manager: ServiceManager, manager_socket: socket.socket) -> None:
    manager.tell("READY=1")
    assert manager_socket.recv(100) == b"READY=1"


def test_descriptors_are_handed_over_and_let_go(manager: ServiceManager, manager_socket: socket.socket) -> None:
    reader, writer = os.pipe()
    manager.keep("log-c1", writer)
    assert manager_socket.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=log-c1"
    text, ancillary, _, _ = manager_socket.recvmsg(100, socket.CMSG_SPACE(4))
    kept = array.array("i", ancillary[0][2])[0]
    os.write(kept, b"x")
    assert (text, os.read(reader, 1)) == (b"FDSTORE=1\nFDNAME=log-c1", b"x")
    manager.release("log-c1")
    assert manager_socket.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=log-c1"
    for fd in (reader, writer, kept):
        os.close(fd)


def test_without_a_manager_nothing_is_said() -> None:
    manager = ServiceManager({})
    manager.tell("READY=1")
    assert manager.kept_log_fifos() == {}
    assert manager.take_log_listener() is None


def test_descriptors_for_another_process_are_left_alone() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "plugin"}
    assert ServiceManager(environment).take_log_listener() is None


def test_what_is_passed_is_told_apart_by_name(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as plugin, socket.socket(socket.AF_UNIX) as cri:
        for listener, name in ((plugin, "plugin.sock"), (cri, "cri.sock")):
            listener.bind(str(tmp_path / name))
            listener.listen()
        script = (
            "import os\n"
            "from cri_dockerd_py.daemon.service_manager import ServiceManager\n"
            "from cri_dockerd_py.cri.activation import inherited_listener\n"
            "manager = ServiceManager()\n"
            "print(manager.kept_log_fifos())\n"
            "taken = manager.take_log_listener()\n"
            "print(taken.getsockname().rpartition('/')[2])\n"
            "print(inherited_listener('fd://', os.environ).getsockname().rpartition('/')[2])\n"
        )
        daemon = Daemon([sys.executable, "-c", script], tmp_path / "printed", {"PYTHONPATH": str(REPOSITORY)})
        daemon.passed = {"plugin": plugin.fileno(), "log-c1": writer, "cri": cri.fileno()}
        daemon.start(lambda: True)
        wait_until(lambda: not daemon.running, "the end of the script")
    os.close(reader)
    os.close(writer)
    assert daemon.log_tail().splitlines() == ["{'log-c1': 4}", "plugin.sock", "cri.sock"]


async def test_the_watchdog_is_fed(manager_socket: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager_socket.getsockname(), "WATCHDOG_USEC": "20000"}
    async with asyncio.TaskGroup() as group:
        feeding = group.create_task(ServiceManager(environment).feed_watchdog())
        beats = [await asyncio.to_thread(manager_socket.recv, 100) for _ in range(3)]
        feeding.cancel()
    assert beats == [b"WATCHDOG=1"] * 3
