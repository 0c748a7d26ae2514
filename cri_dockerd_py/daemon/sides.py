"""Which engines are served, and what each of them brings along: its client, and who writes its containers' logs."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.daemon.service_manager import ServiceManager
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.settings import Settings

_LOG = logging.getLogger(__name__)
_ANSWER_WITHIN_S = 2.0
#: (call, seconds, outcome as `cri_dockerd_py.errors.outcome_of` names it)
Observe = Callable[[str, float, str], None]
#: (bytes that came from a registry)
OnFetched = Callable[[int], None]


class EngineSide(Protocol):
    """One engine with all that lives and dies with this process."""

    @property
    def engine(self) -> Engine:
        """The engine behind the engine interface."""

    @property
    def log_counters(self) -> Counters | None:
        """What was done to logs, None where the engine writes them itself."""

    async def start(self) -> None:
        """Go on with running containers' logs, then make contact; an engine that is away is no error."""

    async def close(self) -> None:
        """Let go of the engine; its containers go on."""


# An engine's code is loaded where that engine is served: it is much of what a start takes, and of the memory.


def _docker(settings: Settings, manager: ServiceManager, observe: Observe, on_fetched: OnFetched) -> EngineSide:
    from cri_dockerd_py.daemon.docker_engine import DockerSide

    return DockerSide(settings, manager, observe, on_fetched)


def _containerd(settings: Settings, manager: ServiceManager, observe: Observe, on_fetched: OnFetched) -> EngineSide:
    from cri_dockerd_py.daemon.containerd_engine import ContainerdSide

    return ContainerdSide(settings, manager, observe, on_fetched)


#: In the order of preference for a node's first default engine.
_BUILDERS: Mapping[str, Callable[[Settings, ServiceManager, Observe, OnFetched], EngineSide]] = {
    "docker": _docker,
    "containerd": _containerd,
}


def chosen_engines(settings: Settings, on_record: Collection[str]) -> tuple[str, ...]:
    """Return the names of the engines to serve; `on_record` are those that have pods according to the database.

    `auto` takes the engines that answer now and those that have pods; when there is none, Docker is waited for.
    """
    if settings.backend == "both":
        return tuple(_BUILDERS)
    if settings.backend != "auto":
        for name in sorted(set(on_record) - {settings.backend}):
            _LOG.warning("%s has pods of this node and is not served: set the backend to both or auto", name)
        return (settings.backend,)
    endpoints = {"docker": settings.docker_endpoint, "containerd": settings.containerd_endpoint}
    return tuple(name for name in _BUILDERS if name in on_record or _answers(endpoints[name])) or ("docker",)


def build_side(
    name: str, settings: Settings, manager: ServiceManager, observe: Observe, on_fetched: OnFetched
) -> EngineSide:
    """Return an engine's side; nothing is sent before it is started."""
    return _BUILDERS[name](settings, manager, observe, on_fetched)


def _answers(endpoint: str) -> bool:
    path = endpoint.removeprefix("unix://")
    if not path.startswith("/"):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_WITHIN_S)
        try:
            connection.connect(path)
        except OSError:
            return False
    return True
