"""Joins the rooms' observation hooks to the service's metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.metrics.registry import ServiceMetrics


class MetricsWiring:
    """Holds the callbacks that rooms are built with; `join` adds what is read at scrape time."""

    def __init__(self, metrics: ServiceMetrics, engine_name: str) -> None:
        self._metrics = metrics
        self._engine_name = engine_name

    def engine_call(self, call: str, seconds: float, ok: bool) -> None:
        """Count a call to the engine."""
        self._metrics.engine_calls.series(self._engine_name, call).observe(seconds, "OK" if ok else "error")

    def cni_call(self, plugin: str, command: str, seconds: float, ok: bool) -> None:
        """Count a run of a CNI plugin."""
        self._metrics.cni_calls.series(plugin, command).observe(seconds, "OK" if ok else "error")

    def core_observers(self) -> CoreObservers:
        """Return what core tells of events, comparisons and pulls."""
        name, metrics = self._engine_name, self._metrics
        resyncs, drift = metrics.resyncs.labels(name), metrics.resync_drift.labels(name, "any")

        def resynced(changes: int) -> None:
            resyncs.inc()
            drift.inc(changes)

        return CoreObservers(
            event_lag=metrics.event_lag.labels(name).observe,
            event_gap=metrics.event_gaps.labels(name).inc,
            resync=resynced,
            pull=lambda seconds, ok: metrics.image_pulls.series(name).observe(seconds, "OK" if ok else "error"),
        )

    def join(self, core: Core, log_counters: Counters | None) -> None:
        """Let a scrape read inventory sizes, health and log figures."""
        self._metrics.objects.read_with(lambda: self._objects(core))
        self._metrics.engine_ready.labels(self._engine_name).set_function(lambda: float(core.health.ready))
        if log_counters is not None:
            self._metrics.logs.read_with(lambda: {(kind,): value for kind, value in _figures(log_counters).items()})

    def _objects(self, core: Core) -> Mapping[tuple[str, ...], float]:
        inventory = core.inventory
        counted = Counter(("sandbox", record.state.name) for record in list(inventory.sandboxes.values()))
        counted.update(("container", record.state.name) for record in list(inventory.containers.values()))
        counted["image", "present"] = len(inventory.images)
        return {(self._engine_name, kind, state): float(number) for (kind, state), number in counted.items()}


def _figures(counters: Counters) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(counters).items()}
