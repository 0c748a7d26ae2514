"""Runs the service: start in order, serve until told to stop, end in reverse order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from yarl import URL

from cri_dockerd_py import __version__
from cri_dockerd_py.cgroups.detect import detect, reader_for
from cri_dockerd_py.core.assembly import Core, CoreSettings
from cri_dockerd_py.core.node import Node
from cri_dockerd_py.core.sessions import Sessions
from cri_dockerd_py.core.stats import Stats
from cri_dockerd_py.cri.methods import Trace
from cri_dockerd_py.cri.server import CriServer
from cri_dockerd_py.daemon.admin_wiring import KubeletWatch, admin_socket
from cri_dockerd_py.daemon.instance import instance_name, sole_use
from cri_dockerd_py.daemon.log_setup import set_up_logs
from cri_dockerd_py.daemon.metrics_wiring import MetricsWiring
from cri_dockerd_py.daemon.reload import Reloader
from cri_dockerd_py.daemon.service_manager import ServiceManager
from cri_dockerd_py.daemon.session_server import session_server
from cri_dockerd_py.daemon.sides import EngineSide, build_side, chosen_engines
from cri_dockerd_py.daemon.status_line import StatusLine
from cri_dockerd_py.daemon.tracing_wiring import TracedWiring, tracer_for
from cri_dockerd_py.errors import CriError, FailedPrecondition
from cri_dockerd_py.metrics.endpoint import MetricsEndpoint
from cri_dockerd_py.metrics.loop_lag import watch_loop
from cri_dockerd_py.metrics.registry import ServiceMetrics
from cri_dockerd_py.migration.images import Transfers
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.pod_network import LIBCNI_CACHE_DIR, CniSettings, PodNetwork
from cri_dockerd_py.settings import Settings
from cri_dockerd_py.store.database import Database
from cri_dockerd_py.store.records import Records

_LOG = logging.getLogger(__name__)
_STOP_GRACE_S = 5.0
_FIRST_CONTACT_S = 10.0


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    set_up_logs(settings.log_level, settings.log_format)
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    manager = ServiceManager()
    status = StatusLine(manager)
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    async with _running(settings, manager, status, reload):
        # What exists now stays for good: the collector, which the command line has stopped, need not look at it again.
        gc.collect()
        gc.freeze()
        gc.enable()
        status.serve("READY=1")
        _LOG.info("cri-dockerd-py %s is ready", __version__)
        await stop.wait()
        status.step("Stopping", "STOPPING=1")
        _LOG.info("stopping; containers go on running")


@asynccontextmanager
async def _running(
    settings: Settings, manager: ServiceManager, status: StatusLine, reload: asyncio.Event
) -> AsyncIterator[None]:
    """Hold everything that runs; leaving it stops all, the newest first."""
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_use(settings.root_dir))
        stack.enter_context(sole_use(settings.state_dir, "state directory"))
        metrics = ServiceMetrics(__version__)
        tracer = tracer_for(settings)
        wiring = MetricsWiring(metrics)
        if tracer is not None:
            stack.push_async_callback(tracer.close)
            wiring = TracedWiring(metrics, tracer)

        database = Database(settings.root_dir / "state.db")
        await database.open()
        stack.push_async_callback(database.close)
        status.step("Going on with containers' logs")
        sides = await _sides(settings, manager, wiring, database, stack)

        netns = NetnsDir(instance_name(settings.root_dir))
        network = _network(settings, netns, wiring)
        await network.start()
        core = Core([side.engine for side in sides], network, netns, database, _core_settings(settings, wiring))
        await core.restore()
        status.join(core.engines, core.inventory)
        stack.push_async_callback(core.close)
        wiring.join(core, [side.log_counters for side in sides if side.log_counters is not None])

        stats = Stats(core.inventory, reader_for(detect()), partial(_layers_root, core))
        stats.start()
        stack.callback(stats.close)

        sessions = await stack.enter_async_context(session_server(settings, core, metrics))
        node = Node(
            sandboxes=core.sandboxes,
            containers=core.containers,
            execution=Sessions(core.execution, sessions),
            images=core.images,
            inventory=core.inventory,
            stats=stats,
            events=core.events,
            status=core.status,
        )
        await stack.enter_async_context(_background(settings, core, network, manager, metrics, status, reload))
        kubelet = KubeletWatch(metrics.rpcs.series)
        trace = None if tracer is None else tracer.rpc
        await stack.enter_async_context(_endpoints(settings, node, metrics, core, kubelet, trace))
        transfers = _transfers(sides)
        await stack.enter_async_context(admin_socket(settings, core, database, transfers, kubelet, metrics, status))
        yield


async def _sides(
    settings: Settings, manager: ServiceManager, wiring: MetricsWiring, database: Database, stack: AsyncExitStack
) -> list[EngineSide]:
    """Start the engines' sides; each is closed with the stack. One that was not asked for may be refused to us."""
    on_record = await Records(database).engines()
    names = chosen_engines(settings, on_record)
    sides: list[EngineSide] = []
    for name in names:
        side = build_side(name, settings, manager, partial(wiring.engine_call, name), partial(wiring.fetched, name))
        stack.push_async_callback(side.close)
        try:
            await side.start()
        except FailedPrecondition as error:
            alone = name == names[-1] and not sides
            if settings.backend != "auto" or name in on_record or alone:
                raise
            _LOG.warning("%s is left out: %s", name, error)
        else:
            sides.append(side)
    return sides


@asynccontextmanager
async def _background(
    settings: Settings,
    core: Core,
    network: PodNetwork,
    manager: ServiceManager,
    metrics: ServiceMetrics,
    status: StatusLine,
    reload: asyncio.Event,
) -> AsyncIterator[None]:
    """Follow the engines and the network; the first look at the engines is waited for, but not for ever."""
    refused: CriError | None = None
    async with asyncio.TaskGroup() as group:
        jobs = [
            group.create_task(network.run(), name="network"),
            group.create_task(manager.feed_watchdog(), name="watchdog"),
            group.create_task(status.run(), name="status"),
            group.create_task(Reloader(settings, status, network.update_pod_cidr, reload).run(), name="reload"),
            group.create_task(watch_loop(metrics.loop_lag.observe), name="loop lag"),
            *core.run_in(group),
        ]
        status.wait_for_engines()
        try:
            await core.first_contact(_FIRST_CONTACT_S)
            yield
        except CriError as error:  # what is started later was refused: its words are for people, and in no group
            refused = error
        finally:
            for job in jobs:
                job.cancel()
    if refused is not None:
        raise refused


@asynccontextmanager
async def _endpoints(
    settings: Settings, node: Node, metrics: ServiceMetrics, core: Core, kubelet: KubeletWatch, trace: Trace | None
) -> AsyncIterator[None]:
    """Serve CRI, and metrics where wanted."""
    server = CriServer(settings.container_runtime_endpoint, node, settings.private_sockets_dir, kubelet.series, trace)
    page = MetricsEndpoint(metrics.page, lambda: _problem(core))
    try:
        if settings.metrics_bind_addr:
            host, port = await page.start(settings.metrics_bind_addr)
            _LOG.info("metrics are served at %s", URL.build(scheme="http", host=host, port=port, path="/metrics"))
        await server.start()
        yield
    finally:
        await server.stop(_STOP_GRACE_S)
        await page.close()


def _transfers(sides: Sequence[EngineSide]) -> Transfers:
    """Return how images get from one engine to the other; the code for it is loaded where there are two."""
    if len(sides) < 2:
        return {}
    from cri_dockerd_py.daemon.image_transfers import image_transfers

    return image_transfers(sides)


def _network(settings: Settings, netns: NetnsDir, wiring: MetricsWiring) -> PodNetwork:
    cni = CniSettings(
        conf_dir=str(settings.cni_conf_dir),
        bin_dirs=tuple(str(path) for path in settings.cni_bin_dir),
        cache_dir=settings.cni_cache_dir,
        foreign_cache_dirs=(LIBCNI_CACHE_DIR,),
        lock_dir=settings.state_dir / "cni-locks",
        timeout=settings.cni_timeout,
    )
    network = PodNetwork(cni, netns, wiring.cni_call)
    network.update_pod_cidr(",".join(settings.pod_cidr))
    return network


def _core_settings(settings: Settings, wiring: MetricsWiring) -> CoreSettings:
    return CoreSettings(
        runtime_name=settings.runtime_name,
        exec_drain_timeout_s=settings.exec_drain_timeout,
        resync_interval_s=settings.resync_interval,
        cni_gc=settings.cni_gc,
        effective=lambda: {**settings.plain(), "stateDir": str(settings.state_dir)},
        observers=wiring.core_observers,
    )


def _layers_root(core: Core, engine: str) -> str:
    info = next((side.info for side in core.engines if side.name == engine), None)
    return info.root_dir if info else ""


def _problem(core: Core) -> str:
    """Return why no pod can be made, empty when one can."""
    health = core.engines.default.health
    return "" if health.ready else f"{health.engine_name}: {health.reason}"
