"""The service as a process: what keeps it from starting, without an engine."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.manager import Manager
from tests.processes import Daemon, answers, erase, free_port, private_directory, wait_until

PROGRAM = Path(sys.executable).parent / "cri-dockerd-py"


@pytest.fixture
def directory() -> Iterator[Path]:
    directory = private_directory("d")
    (directory / "config.toml").touch()
    yield directory
    erase(directory)


@pytest.fixture
def service(directory: Path) -> Iterator[Daemon]:
    """A service that serves, and knows of no engine."""
    daemon = Daemon(serve(directory, "a"), directory / "serve.log")
    daemon.start(lambda: answers(directory / "a" / "state" / "admin" / "admin.sock"))
    yield daemon
    daemon.stop()


def serve(directory: Path, name: str, **changed: object) -> list[str]:
    """Return the command of a service with directories and sockets of its own, but for what is changed."""
    own = directory / name
    options = {
        "config": directory / "config.toml",
        "backend": "docker",
        "docker_endpoint": f"unix://{directory}/no-docker.sock",
        "container_log_format": "json-file",
        "container_runtime_endpoint": f"unix://{own}/cri.sock",
        "root_dir": own / "root",
        "state_dir": own / "state",
        "cni_conf_dir": own,
        "cni_cache_dir": own / "cni",
        **changed,
    }
    return [str(PROGRAM), "serve", *(f"--{flag.replace('_', '-')}={value}" for flag, value in options.items())]


def refused(command: list[str]) -> str:
    """Run what does not start, and return its last word, which is all that it says of it."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_second_service_leaves_the_sockets_of_the_first(service: Daemon, directory: Path) -> None:
    state_dir = directory / "a" / "state"
    said = refused(serve(directory, "b", state_dir=state_dir))
    asked = [str(PROGRAM), "log-level", f"--state-dir={state_dir}", f"--config={directory}/config.toml"]
    shown = subprocess.run(asked, capture_output=True, text=True, timeout=60)

    assert said.startswith(f"cri-dockerd-py: another process serves with the state directory {state_dir}; stop it")
    assert (shown.returncode, shown.stdout) == (0, "info\n")


def test_what_keeps_the_last_steps_of_a_start_from_being_done_is_said_in_a_line(
    service: Daemon, directory: Path
) -> None:
    """The engines are followed by then, in a group of tasks that would wrap it."""
    taken = directory / "a" / "cri.sock"
    said = refused(serve(directory, "b", container_runtime_endpoint=f"unix://{taken}"))

    assert said == f"cri-dockerd-py: another process answers on {taken}: stop it first or listen elsewhere"


def test_a_metrics_port_that_is_taken_is_said_in_a_line(directory: Path) -> None:
    port = free_port()
    said = refused(
        serve(directory, "b", streaming_bind_addr=f"127.0.0.1:{port}", metrics_bind_addr=f"127.0.0.1:{port}")
    )

    assert said.startswith(f"cri-dockerd-py: metrics cannot be served at 127.0.0.1:{port}")


@pytest.mark.parametrize("setting", ["container_runtime_endpoint", "admin_endpoint"])
def test_a_place_where_no_socket_can_be_is_said_in_a_line(directory: Path, setting: str) -> None:
    (directory / "file").touch()
    said = refused(serve(directory, "b", **{setting: f"unix://{directory}/file/a.sock"}))

    assert said.startswith(f"cri-dockerd-py: no socket can be made at {directory}/file/a.sock")


def test_a_reload_that_comes_during_the_start_waits_for_its_end(directory: Path) -> None:
    """It neither ends the service nor has the manager told that it is ready before it is."""
    manager = Manager(directory / "notify.sock")
    with contextlib.closing(manager), socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(directory / "no-docker.sock"))
        hanging.listen()
        daemon = Daemon(serve(directory, "a"), directory / "serve.log", manager.environment)
        daemon.start(lambda: bool(manager.statuses))
        daemon.signal(signal.SIGHUP)
        manager.wait_told("Waiting for docker")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "settings were read" in daemon.log.read_text(), "the reload")
        daemon.stop()

    read_at = manager.statuses.index("Reading settings")
    assert any(told.startswith("Serving") for told in manager.statuses[:read_at]), manager.statuses
