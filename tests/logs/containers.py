"""Real containers whose output goes to a log driver, and the driver as a process that can be killed."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

from docker.types import LogConfig

from cri_dockerd_py.logs.driver import LOG_PATH_LABEL, PLUGIN_DIR
from tests.engines import DockerEngine
from tests.images import BUSYBOX
from tests.processes import Daemon, answers, private_directory, wait_until

_serial = itertools.count()


def driver_name() -> str:
    """A name that no other test run uses: all engines of a machine share one plugin directory."""
    return f"cdp-test-{os.getpid()}-{next(_serial)}"


class DriverProcess:
    """`driver_process.py` under a name and state directory of its own."""

    def __init__(self) -> None:
        self.name = driver_name()
        self.directory = private_directory("l")
        self.socket = PLUGIN_DIR / f"{self.name}.sock"
        root = Path(__file__).parents[2]
        command = [sys.executable, "-m", "tests.logs.driver_process", self.name, str(self.directory / "state")]
        self.daemon = Daemon(command, self.directory / "driver.log", {"PYTHONPATH": str(root)})

    def start(self, *, wait: bool = True) -> None:
        """Start it; without `wait` it may not listen yet."""
        self.daemon.start(lambda: not wait or answers(self.socket))

    def rotate(self, path: Path, rotated: Path) -> None:
        """Rotate as kubelet does; return when the new file is there."""
        path.rename(rotated)
        self.daemon.signal(signal.SIGHUP)
        wait_until(path.exists, f"{path} being there again", 10)

    def close(self) -> None:
        """Stop it."""
        self.daemon.stop()
        self.socket.unlink(missing_ok=True)


def run(engine: DockerEngine, driver: str, path: Path | None, script: str, *, tty: bool = False) -> str:
    """Start a container that runs a shell script, and return its id."""
    api = engine.client.api
    config = LogConfig(type=driver, config={"cache-disabled": "true"})
    container_id = api.create_container(
        BUSYBOX,
        ["sh", "-c", script],
        tty=tty,
        labels={LOG_PATH_LABEL: str(path)} if path else {},
        host_config=api.create_host_config(log_config=config, network_mode="none"),
    )["Id"]
    api.start(container_id)
    return str(container_id)


def finish(engine: DockerEngine, container_id: str, *, kill: bool = False) -> None:
    """Wait for the end of a container and remove it."""
    if kill:
        engine.client.api.kill(container_id)
    engine.client.api.wait(container_id, timeout=60)
    engine.client.api.remove_container(container_id, force=True)
