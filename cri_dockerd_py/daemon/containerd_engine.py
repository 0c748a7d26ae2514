"""Containerd, built from the settings."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable
from pathlib import Path

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.backends.containerd.engine import ContainerdEngine, ContainerdOptions, connect
from cri_dockerd_py.daemon.instance import instance_name
from cri_dockerd_py.daemon.service_manager import ServiceManager
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.model.node import CgroupDriver
from cri_dockerd_py.network.resolv_conf import write_pod_resolv_conf
from cri_dockerd_py.settings import Settings

_SYSTEMD = Path("/run/systemd/system")


class ContainerdSide:
    """The engine, and what keeps a second service away from the same pods."""

    def __init__(
        self,
        settings: Settings,
        manager: ServiceManager,
        observe: Callable[[str, float, str], None],
        on_fetched: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._containerd: ContainerdEngine = connect(_options(settings, manager, observe, on_fetched))
        self._claim: socket.socket | None = None

    @property
    def engine(self) -> Engine:
        """Containerd behind the engine interface."""
        return self._containerd.engine

    @property
    def backend(self) -> ContainerdEngine:
        """The engine with all that it has beside the interface."""
        return self._containerd

    @property
    def log_counters(self) -> Counters | None:
        """What was done with containers' output."""
        return self._containerd.log_counters

    async def start(self) -> None:
        """Go on with running containers' logs, then make contact."""
        self._claim = claim_pods(self._settings)
        await self._containerd.start()

    async def close(self) -> None:
        """Let go of containerd; running containers' output waits in their pipes for the next process."""
        await self._containerd.close()
        if self._claim is not None:
            self._claim.close()


def claim_pods(settings: Settings) -> socket.socket:
    """Be the only service for the pods of one containerd namespace: two would take each other's output away.

    The kernel lets go of the name when the process ends.
    """
    path = os.path.realpath(settings.containerd_endpoint.removeprefix("unix://"))
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0cri-dockerd-py:{settings.containerd_namespace}:{path}"[:107])
    except OSError as error:
        claim.close()
        raise FailedPrecondition(
            f"another process serves the pods of containerd at {path} in the namespace "
            f"{settings.containerd_namespace}; stop it, or give this one a --containerd-namespace of its own"
        ) from error
    return claim


def engine_directories(settings: Settings) -> tuple[Path, Path]:
    """Return the engine's own root and state directories."""
    return settings.root_dir / "containerd", settings.state_dir / "containerd"


def _options(
    settings: Settings,
    manager: ServiceManager,
    observe: Callable[[str, float, str], None],
    on_fetched: Callable[[int], None],
) -> ContainerdOptions:
    driver = settings.cgroup_driver
    root_dir, state_dir = engine_directories(settings)
    return ContainerdOptions(
        endpoint=settings.containerd_endpoint,
        namespace=settings.containerd_namespace,
        root_dir=root_dir,
        state_dir=state_dir,
        write_resolv_conf=write_pod_resolv_conf,
        registry=Registry(settings.registry_config_path),
        owner=instance_name(settings.root_dir),
        architecture=platform.machine(),
        snapshotter=settings.containerd_snapshotter,
        runtimes=settings.containerd_runtimes,
        cgroup_driver=None if driver == "auto" else CgroupDriver(driver),
        systemd=_SYSTEMD.is_dir(),
        pause_image=settings.pod_infra_container_image,
        inherited=manager.kept_output_fifos(),
        keeper=manager,
        call_within_s=settings.engine_call_timeout_seconds,
        pull_stall_s=settings.image_pull_progress_deadline,
        observe=observe,
        on_fetched=on_fetched,
    )
