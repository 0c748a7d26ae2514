"""A service manager holds the log driver's socket and pipes: nothing is lost though service and engine both crash."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni import CniNetwork
from tests.cri_server import CriServer
from tests.daemon.manager import Manager
from tests.engines import DockerEngine
from tests.processes import PLUGIN_SOCKETS, wait_until

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"
# Docker gives up after 15 seconds of refused connections.
AWAY_SECONDS = 17.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket in Docker's plugin directory."""
    PLUGIN_SOCKETS.mkdir(parents=True, exist_ok=True)
    path = PLUGIN_SOCKETS / f"cdp-{os.getpid()}-held.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener
    path.unlink()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Manager]:
    """A service manager, for its descriptor store."""
    store = Manager(tmp_path / "notify")
    yield store
    store.close()


@pytest.fixture
def server(
    own_docker_engine: DockerEngine, own_network: CniNetwork, listener: socket.socket, store: Manager
) -> Iterator[CriServer]:
    """A service that such a manager started."""
    flags = [f"--log-driver-name={Path(listener.getsockname()).stem}"]
    server = CriServer(own_docker_engine, own_network, flags, store.environment)
    server.daemon.passed = {"plugin": listener.fileno()}
    server.start()
    yield server
    server.close()


@pytest.mark.timeout(300)
def test_no_line_is_lost_when_service_and_engine_crash_together(
    own_docker_engine: DockerEngine, server: CriServer, listener: socket.socket, store: Manager
) -> None:
    client = server.client()
    config = client.sandbox_config()
    container = client.container_config("/bin/sh", "-c", COUNT)
    pod = client.run_pod(config)
    client.start_container(pod, container, config)
    log = Path(config.log_directory) / container.log_path
    wait_until(lambda: log.exists() and log.stat().st_size > 1000, "the first lines")
    assert len(store.kept) == 1

    server.kill()
    own_docker_engine.kill()
    back = threading.Thread(target=own_docker_engine.start)
    back.start()
    back.join(AWAY_SECONDS)
    size = log.stat().st_size
    server.daemon.passed = {**store.kept, "plugin": listener.fileno()}
    server.start()
    back.join()
    wait_until(lambda: log.stat().st_size > size + 1000, "lines after the restart")

    client.remove_pod(pod)
    client.close()
    numbers = [int(line.split(b" ", 3)[3]) for line in log.read_bytes().splitlines()]
    assert numbers == list(range(len(numbers)))
