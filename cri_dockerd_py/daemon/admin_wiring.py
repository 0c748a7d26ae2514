"""The admin socket and what it drives, joined to core."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cri_dockerd_py import __version__
from cri_dockerd_py.admin.node import AdminNode
from cri_dockerd_py.admin.server import AdminServer
from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.cri.methods import CallObserver, Observe
from cri_dockerd_py.daemon.log_setup import ServiceLogLevel
from cri_dockerd_py.daemon.status_line import StatusLine
from cri_dockerd_py.metrics.registry import ServiceMetrics
from cri_dockerd_py.migration.images import Transfers
from cri_dockerd_py.migration.journal import Journal
from cri_dockerd_py.migration.moves import MoveState
from cri_dockerd_py.migration.service import Migrations
from cri_dockerd_py.settings import Settings
from cri_dockerd_py.settings.document import changed_document
from cri_dockerd_py.store.database import Database

_STOP_GRACE_S = 2.0
_KUBELETS_CALL = "ListPodSandbox"


class KubeletWatch:
    """Notes when pods were last listed, which kubelet does every second."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._heard_at_s = -math.inf

    def silent_s(self) -> float:
        """Return how long ago pods were listed, infinity when they have not been."""
        return time.monotonic() - self._heard_at_s

    def series(self, method: str) -> CallObserver:
        """Return the observer of a method's calls."""
        observer = self._observe(method)
        return _Noting(observer, self) if method == _KUBELETS_CALL else observer

    def note(self) -> None:
        """Pods are being listed."""
        self._heard_at_s = time.monotonic()


class _Noting:
    """Passes on what it is told, and notes the call."""

    def __init__(self, observer: CallObserver, watch: KubeletWatch) -> None:
        self._watch = watch
        self._observer = observer

    def begin(self) -> None:
        self._watch.note()
        self._observer.begin()

    def end(self, seconds: float, code: str) -> None:
        self._observer.end(seconds, code)


@asynccontextmanager
async def admin_socket(
    settings: Settings,
    core: Core,
    database: Database,
    transfers: Transfers,
    kubelet: KubeletWatch,
    metrics: ServiceMetrics,
    status: StatusLine,
) -> AsyncIterator[None]:
    """Serve the admin socket, and go on with a migration that an earlier process was at."""
    migrations = Migrations(core.migration, transfers, Journal(database), kubelet.silent_s)
    status.join_migrations(migrations)
    metrics.migration_pods.read_with(lambda: _pods_by_state(migrations))
    metrics.migration_image_bytes.read_with(lambda: _image_bytes(migrations))
    node = AdminNode(
        version=__version__,
        started_at_ns=time.time_ns(),
        port=core.migration,
        migrations=migrations,
        network_problem=lambda: _network_problem(core),
        log_level=ServiceLogLevel(),
        settings=changed_document(settings),
    )
    server = AdminServer(settings.admin_socket, node, settings.private_sockets_dir)
    try:
        await migrations.restore()
        await server.start()
        yield
    finally:
        await server.stop(_STOP_GRACE_S)
        await migrations.close()


def _pods_by_state(migrations: Migrations) -> Mapping[tuple[str, ...], float]:
    counted = Counter(move.state.value for move in migrations.progress.moves)
    return {(state.value,): float(counted[state.value]) for state in MoveState} if counted else {}


def _image_bytes(migrations: Migrations) -> Mapping[tuple[str, ...], float]:
    images = migrations.progress.images
    return {("done",): float(images.bytes_done), ("total",): float(images.bytes_total)}


def _network_problem(core: Core) -> str:
    network = core.status.conditions()[-1]
    return "" if network.status else network.message or network.reason
