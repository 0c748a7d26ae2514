"""The node that is soaked: real engines, the service on them, and what can be broken of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cri_dockerd_py.metrics.registry import PREFIX
from tests.behaviour.client import Cri
from tests.behaviour.conftest import IMAGES
from tests.cni import PLUGIN_DIRECTORIES, CniNetwork
from tests.conftest import start_engine
from tests.cri_server import CriServer
from tests.daemon.manager import Manager
from tests.engines import ContainerdNode, DockerEngine, RealEngine
from tests.processes import PLUGIN_SOCKETS, erase, free_port, private_directory
from tests.processes import PREFIX as PREFIX_OF_TESTS

#: Shorter than what a hanging plugin may take, so that both ways out of it are seen.
CNI_TIMEOUT_S = 15
SMALL_DISK = "size=24m"
_PODS_OF_THE_SECOND_ENGINE = 4000


class SoakNode:
    """One engine, or Docker and containerd; `small_logs` is the log directory on a disk that can be filled."""

    def __init__(self, engine_names: Sequence[str], stack: contextlib.ExitStack) -> None:
        self.network = CniNetwork()
        stack.callback(self.network.close)
        self.breaks = self.network.add_breakable_plugin()
        self.engines: dict[str, RealEngine] = {}
        for name in engine_names:
            engine = start_engine(name)
            stack.callback(engine.close)
            self.engines[engine.kind] = engine
        self._metrics_address = f"127.0.0.1:{free_port()}"
        self._listener = stack.enter_context(_log_listener())
        notify = private_directory("m")
        stack.callback(erase, notify)
        self.manager = Manager(notify / "notify")
        stack.callback(self.manager.close)
        flags = self._flags()
        self.server = CriServer(next(iter(self.engines.values())), self.network, flags, self.manager.environment)
        stack.callback(self.server.close)
        self.logs = self.server.log_dir / "large"
        self.small_logs = self.server.log_dir / "small"
        for directory in (self.logs, self.small_logs):
            directory.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", SMALL_DISK, "tmpfs", str(self.small_logs)], check=True)
        self._uids = self._pin_pods()
        self.start_service()

    def start_service(self) -> None:
        """Start the service as systemd does: with the log driver's socket, and the pipes that were handed over."""
        self.server.daemon.passed = {**self.manager.kept, "plugin": self._listener.fileno()}
        self.server.start()

    def _flags(self) -> list[str]:
        flags = [
            f"--metrics-bind-addr={self._metrics_address}",
            f"--log-driver-name={Path(self._listener.getsockname()).stem}",
            f"--cni-timeout={CNI_TIMEOUT_S}s",
            f"--cni-bin-dir={','.join([*PLUGIN_DIRECTORIES, str(self.breaks)])}",
            "--resync-interval=20s",
        ]
        if len(self.engines) > 1:
            containerd = self.containerd
            flags += ["--backend=both", f"--containerd-endpoint={containerd.endpoint}"]
        return flags

    @property
    def docker(self) -> DockerEngine:
        """Docker Engine."""
        engine = self.engines["docker"]
        assert isinstance(engine, DockerEngine)
        return engine

    @property
    def containerd(self) -> ContainerdNode:
        """containerd as an engine of its own."""
        engine = self.engines["containerd"]
        assert isinstance(engine, ContainerdNode)
        return engine

    # --- pods on either engine

    def _pin_pods(self) -> Iterator[str]:
        """Pin uids to the engine that is not the default one, as a migration does, and yield them."""
        if len(self.engines) == 1:
            return iter(())
        self.start_service()
        self.server.stop()
        uids = [str(uuid.uuid4()) for _ in range(_PODS_OF_THE_SECOND_ENGINE)]
        second = list(self.engines)[1]
        with contextlib.closing(sqlite3.connect(self.server.root_dir / "state.db")) as database:
            database.executemany("INSERT INTO pins VALUES (?, ?)", [(uid, second) for uid in uids])
            database.commit()
        return iter(uids)

    def new_uid(self, engine: str) -> str:
        """Return the uid of a pod that will be made on this engine."""
        return str(uuid.uuid4()) if engine == next(iter(self.engines)) else next(self._uids)

    def client(self) -> Cri:
        """Return a client; its images have the short names of the behaviour suite."""
        client = Cri(self.server.socket, self.logs)
        client.images.update(IMAGES)
        return client

    # --- looking

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels, now; the prefix is added to names of the service."""
        with urllib.request.urlopen(f"http://{self._metrics_address}/metrics", timeout=10) as page:
            text = page.read().decode()
        full_name = name if name.startswith("process_") else f"{PREFIX}_{name}"
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == full_name and labels.items() <= sample.labels.items()
        )

    def is_ready(self, engine: str) -> bool:
        """Whether the service says that the engine answers."""
        with contextlib.suppress(OSError):
            return self.metric("engine_ready", engine=engine) == 1.0
        return False

    def daemon_pids(self) -> set[int]:
        """Return the processes that are meant to live."""
        pids = {self.server.daemon.pid, *(engine.daemon.pid for engine in self.engines.values())}
        if "docker" in self.engines:
            pids.add(self.docker.containerd.daemon.pid)
        return pids

    def directories(self) -> list[Path]:
        """Return the directories under which everything of the node is."""
        return [self.server.directory, self.network.directory, *(one.directory for one in self.engines.values())]

    def keep_logs(self, target: Path) -> None:
        """Copy the daemons' logs."""
        target.mkdir(parents=True, exist_ok=True)
        for path in [
            self.server.daemon.log,
            *(log for one in self.engines.values() for log in one.directory.glob("*.log")),
        ]:
            shutil.copy(path, target / f"{path.parent.name}-{path.name}")


@contextlib.contextmanager
def _log_listener() -> Iterator[socket.socket]:
    """Listen where Docker looks for the log driver, as its socket unit does."""
    path = PLUGIN_SOCKETS / f"{PREFIX_OF_TESTS}{os.getpid()}-soak.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener
    path.unlink()
