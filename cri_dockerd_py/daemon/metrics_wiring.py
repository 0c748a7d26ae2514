"""Joins the rooms' observation hooks to the service's metrics."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.core.engines import Side
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.metrics.registry import ServiceMetrics
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxState


class MetricsWiring:
    """Holds the callbacks that rooms are built with; `join` adds what is read at scrape time."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics

    def engine_call(self, engine: str, call: str, seconds: float, code: str) -> None:
        """Count a call to an engine."""
        self._metrics.engine_calls.series(engine, call).observe(seconds, code)

    def cni_call(self, plugin: str, command: str, seconds: float, ok: bool) -> None:
        """Count a run of a CNI plugin."""
        self._metrics.cni_calls.series(plugin, command).observe(seconds, "OK" if ok else "error")

    def fetched(self, engine: str, size_bytes: int) -> None:
        """Count what came from a registry."""
        self._metrics.pulled_bytes.labels(engine).inc(size_bytes)

    def core_observers(self, engine: str) -> CoreObservers:
        """Return what core tells of an engine's events, comparisons and pulls."""
        metrics = self._metrics
        # From 0 on, so that a rate sees the first pull.
        metrics.pulled_bytes.labels(engine)
        pulls = metrics.image_pulls.series(engine)
        resyncs, drift = metrics.resyncs.labels(engine), metrics.resync_drift.labels(engine)

        def resynced(changes: int) -> None:
            resyncs.inc()
            drift.inc(changes)

        return CoreObservers(
            event_lag=metrics.event_lag.labels(engine).observe,
            event_gap=metrics.event_gaps.labels(engine).inc,
            resync=resynced,
            pull=lambda seconds, ok: pulls.observe(seconds, "OK" if ok else "error"),
        )

    def join(self, core: Core, log_counters: Iterable[Counters]) -> None:
        """Let a scrape read inventory sizes, health and log figures."""
        self._metrics.objects.read_with(lambda: _objects(core))
        self._metrics.loop_tasks.set_function(lambda: float(len(asyncio.all_tasks())))
        for side in core.engines:
            self._metrics.engine_ready.labels(side.name).set_function(partial(_readiness, side))
        counters = tuple(log_counters)
        self._metrics.log_bytes.read_with(lambda: _log_figures(counters, "_bytes"))
        self._metrics.log_lines.read_with(lambda: _log_figures(counters, "_lines"))
        self._metrics.log_events.read_with(lambda: _log_figures(counters, ""))


def _readiness(side: Side) -> float:
    return float(side.health.ready)


def _objects(core: Core) -> Mapping[tuple[str, ...], float]:
    inventory = core.inventory
    states = [("sandbox", state.name) for state in SandboxState] + [
        ("container", state.name) for state in ContainerState
    ]
    counted = Counter(dict.fromkeys(((name, *state) for name in core.engines.names for state in states), 0))
    counted.update((one.engine, "sandbox", one.state.name) for one in list(inventory.sandboxes.values()))
    counted.update((one.engine, "container", one.state.name) for one in list(inventory.containers.values()))
    counted.update({(name, "image", "present"): len(inventory.image_list.on(name)) for name in core.engines.names})
    return {key: float(number) for key, number in counted.items()}


def _log_figures(counters: Sequence[Counters], unit: str) -> Mapping[tuple[str, ...], float]:
    """Return the sums of the counters in a unit by kind: `_bytes`, `_lines`, or "" for those that count neither."""
    total: Counter[str] = Counter()
    for one in counters:
        total.update(asdict(one))
    return {(name.removesuffix(unit),): float(value) for name, value in total.items() if _unit(name) == unit}


def _unit(name: str) -> str:
    return next((unit for unit in ("_bytes", "_lines") if name.endswith(unit)), "")
