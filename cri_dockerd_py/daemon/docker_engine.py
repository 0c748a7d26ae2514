"""Docker Engine and the log driver that it writes to, built from the settings."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.backends.docker.container_logs import ContainerLogs, DriverLogs, JsonFileLogs
from cri_dockerd_py.backends.docker.engine import DockerEngine, DockerOptions, connect
from cri_dockerd_py.daemon.instance import log_driver_name
from cri_dockerd_py.daemon.service_manager import ServiceManager
from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.driver import PLUGIN_DIR, LogDriver
from cri_dockerd_py.network.resolv_conf import write_pod_resolv_conf
from cri_dockerd_py.pause.image import PAUSE_IMAGE_NAME, pause_image_tar
from cri_dockerd_py.settings import Settings

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class DockerSide:
    """The engine, and the driver that lives and dies with this process."""

    def __init__(
        self,
        settings: Settings,
        manager: ServiceManager,
        observe: Callable[[str, float, str], None],
        on_fetched: Callable[[int], None],
    ) -> None:
        self._driver: LogDriver | None = None
        logs: ContainerLogs = JsonFileLogs()
        listener = manager.take_log_listener()
        if settings.container_log_format == "cri":
            name = log_driver_name(settings)
            _check_listener(listener, name)
            self._driver = LogDriver(
                name,
                state_dir=settings.state_dir / "logs",
                inherited=manager.kept_log_fifos(),
                keeper=manager,
                listener=listener,
            )
            logs = DriverLogs(self._driver.log_config(), self._driver.reopen, self._driver.forget, self._driver.known)
        self._docker = connect(_options(settings, logs, observe, on_fetched))

    @property
    def engine(self) -> Engine:
        """Docker behind the engine interface."""
        return self._docker.engine

    @property
    def backend(self) -> DockerEngine:
        """The engine with all that it has beside the interface."""
        return self._docker

    @property
    def log_counters(self) -> Counters | None:
        """What the log driver has done, None where Docker writes its own files."""
        return self._driver.counters if self._driver else None

    async def start(self) -> None:
        """Go on with running containers' logs first, then make contact."""
        if self._driver is not None:
            await self._driver.start()
        await self._docker.start()

    async def close(self) -> None:
        """Let go of Docker; running containers' output waits in their pipes for the next process."""
        await self._docker.close()
        if self._driver is not None:
            await self._driver.stop()


def _check_listener(listener: socket.socket | None, name: str) -> None:
    expected = PLUGIN_DIR / f"{name}.sock"
    if listener is not None and listener.getsockname() != str(expected):
        raise FailedPrecondition(
            f"the log driver is named {name}, so Docker looks for it at {expected}, but its socket unit listens at "
            f"{listener.getsockname()}; set ListenStream={expected} there, or stop the unit"
        )


def _options(
    settings: Settings,
    logs: ContainerLogs,
    observe: Callable[[str, float, str], None],
    on_fetched: Callable[[int], None],
) -> DockerOptions:
    configured = settings.pod_infra_container_image
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return DockerOptions(
        endpoint=settings.docker_endpoint,
        state_dir=settings.state_dir,
        pause_image=configured or PAUSE_IMAGE_NAME,
        pause_image_tar=None if configured else partial(pause_image_tar, architecture),
        write_resolv_conf=write_pod_resolv_conf,
        logs=logs,
        checkpoint_dirs=_checkpoint_dirs(settings),
        call_within_s=settings.engine_call_timeout_seconds,
        pull_stall_s=settings.image_pull_progress_deadline,
        observe=observe,
        on_fetched=on_fetched,
    )


def _checkpoint_dirs(settings: Settings) -> list[Path]:
    return [root / "sandbox" for root in (settings.root_dir, *settings.cri_dockerd_root_directory)]
