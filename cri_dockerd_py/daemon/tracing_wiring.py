"""Joins the rooms' observation hooks to traces as well, where traces are wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cri_dockerd_py import __version__
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.daemon.metrics_wiring import MetricsWiring
from cri_dockerd_py.errors import OK, FailedPrecondition, NotFound
from cri_dockerd_py.metrics.registry import ServiceMetrics
from cri_dockerd_py.settings import Settings

if TYPE_CHECKING:
    from cri_dockerd_py.daemon.tracing import Tracer

#: That something is absent is an answer like others.
_ORDINARY = frozenset({OK, NotFound.__name__})


def tracer_for(settings: Settings) -> Tracer | None:
    """Return where traces go, None without an endpoint; FailedPrecondition when OpenTelemetry is not installed."""
    if not settings.tracing_endpoint:
        return None
    try:
        from cri_dockerd_py.daemon.tracing import Tracer
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"tracing_endpoint is set, and {error.name} is not installed: "
            "pip install 'cri-dockerd-py[otel]' into the service's environment, or unset it"
        ) from error
    return Tracer(settings.tracing_endpoint, settings.tracing_sampling_rate_per_million, __version__)


class TracedWiring(MetricsWiring):
    """Counts, and adds to the trace of the call that something was done for."""

    def __init__(self, metrics: ServiceMetrics, tracer: Tracer) -> None:
        super().__init__(metrics)
        self._tracer = tracer

    def engine_call(self, engine: str, call: str, seconds: float, code: str) -> None:
        """Count and span a call to an engine."""
        super().engine_call(engine, call, seconds, code)
        self._tracer.ended(f"{engine} {call}", seconds, code in _ORDINARY, engine=engine, call=call)

    def cni_call(self, plugin: str, command: str, seconds: float, ok: bool) -> None:
        """Count and span a run of a CNI plugin."""
        super().cni_call(plugin, command, seconds, ok)
        self._tracer.ended(f"CNI {command} {plugin}", seconds, ok, plugin=plugin, command=command)

    def core_observers(self, engine: str) -> CoreObservers:
        """Return what core tells, with pulls spanned."""
        observers = super().core_observers(engine)

        def pulled(seconds: float, ok: bool) -> None:
            observers.pull(seconds, ok)
            self._tracer.ended("pull", seconds, ok, engine=engine)

        return replace(observers, pull=pulled)
