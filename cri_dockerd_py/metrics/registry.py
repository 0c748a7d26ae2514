"""The service's own metrics: one registry, every name in one place, no global state."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from cri_dockerd_py.metrics.callbacks import CallbackMetric
from cri_dockerd_py.metrics.calls import DEFAULT_BOUNDS_S, CallMetrics

PREFIX = "cri_dockerd_py"
_SLOW_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
#: The codes that are shown from 0 on: success, and what one is alerted on or has to look at.
_RPC_OUTCOMES = ("OK", "UNAVAILABLE", "UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED")
_ENGINE_OUTCOMES = ("OK", "Unavailable", "Unknown")
_OUTCOMES = ("OK", "error")
_LAG_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ServiceMetrics:
    """What the rooms count into. Label values come from small fixed sets; free text is never a label."""

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauge("build_info", "Constant 1 with the version.", ("version",)).labels(version or "unknown").set(1)
        self._calls()
        self._engine()
        self._pods()

    def _calls(self) -> None:
        #: RPCs by method; the code is the gRPC status name.
        self.rpcs = self._call_metrics(
            "rpc", "RPCs of the CRI socket", ("method",), with_in_flight=True, codes=_RPC_OUTCOMES
        )
        #: Engine calls by engine and operation; the code is "OK", the error's class, or "Cancelled".
        self.engine_calls = self._call_metrics(
            "engine_call", "calls to engines", ("engine", "operation"), codes=_ENGINE_OUTCOMES
        )
        #: CNI plugin runs by plugin type and command; the code is "OK" or "error".
        self.cni_calls = self._call_metrics("cni_call", "runs of CNI plugins", ("plugin", "command"), codes=_OUTCOMES)
        self.image_pulls = self._call_metrics("image_pull", "image pulls", ("engine",), _SLOW_BOUNDS_S, codes=_OUTCOMES)
        self.pulled_bytes = self._counter("image_pulled_bytes", "Bytes fetched by image pulls.", ("engine",))

    def _engine(self) -> None:
        self.engine_ready = self._gauge("engine_ready", "Whether the engine answers.", ("engine",))
        self.event_lag = self._histogram(
            "event_lag_seconds", "Age of engine events when they are handled.", ("engine",)
        )
        self.event_gaps = self._counter("event_gaps", "Times that an event stream had to be opened anew.", ("engine",))
        self.resyncs = self._counter("resyncs", "Comparisons of memory with the engine.", ("engine",))
        #: What a resync had to correct although events should have told it; counted at the next resync.
        self.resync_drift = self._counter(
            "resync_drift", "Objects that a comparison found changed, untold by events until the next.", ("engine",)
        )
        #: Read at scrape: (engine, kind, state) → number of objects.
        self.objects = self._callback(GaugeMetricFamily, "objects", "Objects known.", ("engine", "kind", "state"))

    def _pods(self) -> None:
        #: Read at scrape: (kind,) → number, with the kinds read, written and dropped.
        self.log_bytes = self._callback(CounterMetricFamily, "log_bytes", "Bytes of container logs.", ("kind",))
        self.log_lines = self._callback(CounterMetricFamily, "log_lines", "Lines of container logs.", ("kind",))
        #: Read at scrape: (kind,) → number, such as rotations, failures, and full_pipes, which make containers wait.
        self.log_events = self._callback(
            CounterMetricFamily, "log_events", "What happened to container logs.", ("kind",)
        )
        self.streaming_sessions = self._gauge("streaming_sessions", "Open streaming sessions.", ("kind",))
        self.streaming_started = self._counter("streaming_sessions_started", "Streaming sessions begun.", ("kind",))
        self.streaming_bytes = self._counter(
            "streaming_bytes", "Bytes moved by sessions that have ended.", ("kind", "direction")
        )
        #: Read at scrape: (state,) → number of pods of the newest migration.
        self.migration_pods = self._callback(
            GaugeMetricFamily, "migration_pods", "Pods of the newest migration.", ("state",)
        )
        #: Read at scrape: (what,) → bytes of images, "done" and "total", of the newest migration since the start.
        self.migration_image_bytes = self._callback(
            GaugeMetricFamily, "migration_image_bytes", "Bytes of images that a migration copies.", ("what",)
        )
        self.loop_lag = self._histogram("loop_lag_seconds", "How late the event loop runs what is due.", ())
        #: What the loop has under way; it comes back to what it was when calls have ended.
        self.loop_tasks = self._gauge("loop_tasks", "Tasks of the event loop.", ())

    def page(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def _call_metrics(
        self,
        name: str,
        what: str,
        labels: Sequence[str],
        bounds_s: Sequence[float] = DEFAULT_BOUNDS_S,
        *,
        with_in_flight: bool = False,
        codes: Collection[str] = (),
    ) -> CallMetrics:
        metrics = CallMetrics(f"{PREFIX}_{name}", what, labels, bounds_s, with_in_flight=with_in_flight, codes=codes)
        self.registry.register(metrics)
        return metrics

    def _callback(
        self,
        family: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        help: str,
        labels: Sequence[str],
    ) -> CallbackMetric:
        metric = CallbackMetric(family, f"{PREFIX}_{name}", help, labels)
        self.registry.register(metric)
        return metric

    def _gauge(self, name: str, help: str, labels: Sequence[str]) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", help, labels, registry=self.registry)

    def _counter(self, name: str, help: str, labels: Sequence[str]) -> Counter:
        return Counter(f"{PREFIX}_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, labels: Sequence[str]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", help, labels, buckets=_LAG_BOUNDS_S, registry=self.registry)
