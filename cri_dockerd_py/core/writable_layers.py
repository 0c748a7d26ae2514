"""How much each container has written: measured in the background, at a bounded cost, and read from memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cri_dockerd_py.cgroups.disk_usage import tree_usage

PERIOD_S = 10.0
DUTY = 0.003
#: A layer in which nothing changes is measured less and less often, down to every so many periods.
_GROWTH = 1.5
_LONGEST = 6
_WORK_S = 0.005
_REST_S = 0.02
#: Rounds come a period apart, so what is due within this part of one would else wait for a whole further one.
_SLACK = 0.05
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """What a writable layer took when it was measured."""

    timestamp_ns: int
    used_bytes: int
    inodes_used: int


@dataclass(slots=True)
class _Layer:
    path: str
    usage: LayerUsage | None = None
    cost_s: float = 0.0
    period_s: float = 0.0
    measured_at_s: float = float("-inf")


class _StoppedError(Exception):
    """The walk is given up because the service ends."""


class WritableLayers:
    """Owns the one thread that walks writable layers; `layers` returns container id → directory and is called there."""

    def __init__(
        self, layers: Callable[[], Mapping[str, str]], *, duty: float = DUTY, period_s: float = PERIOD_S
    ) -> None:
        self._list_layers = layers
        self._duty = duty
        self._period_s = period_s
        self._layers: dict[str, _Layer] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._worked_since_s = 0.0

    def start(self) -> None:
        """Start measuring."""
        self._thread = threading.Thread(target=self._run, name="writable-layers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop measuring; may be called twice."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def usage(self, container_id: str) -> LayerUsage | None:
        """Return the last measurement, None before the first; asking for an unknown container has it measured soon."""
        layer = self._layers.get(container_id)
        if layer is None:
            self._wake.set()
            return None
        return layer.usage

    def total(self) -> LayerUsage:
        """Return the sum over all containers, as old as its oldest part."""
        usages = [layer.usage for layer in list(self._layers.values()) if layer.usage is not None]
        return LayerUsage(
            timestamp_ns=min((usage.timestamp_ns for usage in usages), default=time.time_ns()),
            used_bytes=sum(usage.used_bytes for usage in usages),
            inodes_used=sum(usage.inodes_used for usage in usages),
        )

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._round()
            except _StoppedError:
                return
            except Exception:
                _LOG.exception("measuring writable layers failed, trying again in %g s", self._period_s)
            self._wake.wait(self._period_s)

    def _round(self) -> None:
        """Measure what is due: new layers at once, others when their period is over."""
        self._follow(self._list_layers())
        pauses = fair_periods({key: layer.cost_s for key, layer in self._layers.items()}, self._duty, self._period_s)
        now_s = time.monotonic()
        for key, layer in list(self._layers.items()):
            if now_s >= layer.measured_at_s + max(layer.period_s, pauses[key]) - self._period_s * _SLACK:
                self._measure(layer)

    def _follow(self, paths: Mapping[str, str]) -> None:
        for gone in self._layers.keys() - paths.keys():
            del self._layers[gone]
        for container_id, path in paths.items():
            layer = self._layers.get(container_id)
            if layer is None or layer.path != path:
                self._layers[container_id] = _Layer(path)

    def _measure(self, layer: _Layer) -> None:
        self._worked_since_s = time.monotonic()
        began_s = time.thread_time()
        tree = tree_usage(layer.path, self._breathe) if layer.path else None
        layer.cost_s = time.thread_time() - began_s
        layer.measured_at_s = time.monotonic()
        if tree is None:
            layer.usage = None
            return
        before = layer.usage
        changed = before is None or (before.used_bytes, before.inodes_used) != (tree.bytes, tree.inodes)
        longest_s = self._period_s * _LONGEST
        layer.period_s = self._period_s if changed else min(layer.period_s * _GROWTH, longest_s)
        layer.usage = LayerUsage(time.time_ns(), tree.bytes, tree.inodes)

    def _breathe(self) -> None:
        """Rest after a little work; a nice value would not do: one may hold the interpreter's lock while it waits."""
        if self._stopping:
            raise _StoppedError
        if time.monotonic() - self._worked_since_s > _WORK_S:
            time.sleep(_REST_S)
            self._worked_since_s = time.monotonic()


def fair_periods(costs_s: Mapping[str, float], duty: float, period_s: float = PERIOD_S) -> dict[str, float]:
    """Return for each layer the least time between two measurements, so that all together stay below `duty`.

    Cheap layers keep the usual period; what they leave is shared equally by the expensive ones.
    """
    periods: dict[str, float] = {}
    left, remaining = len(costs_s), duty
    for key, cost_s in sorted(costs_s.items(), key=lambda item: item[1]):
        share = remaining / left
        periods[key] = max(period_s, cost_s / share)
        remaining -= cost_s / periods[key]
        left -= 1
    return periods
