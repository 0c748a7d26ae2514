"""Calls counted in plain lists, for a few tenths of a microsecond each, and turned into metrics at scrape time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

DEFAULT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
MAX_SERIES = 256
MAX_CODES = 24
_OTHER = "other"


class CallSeries:
    """Calls with the same labels. One thread counts, any thread may read."""

    __slots__ = ("_bounds", "codes", "counts", "in_flight", "sum_s")

    def __init__(self, bounds_s: Sequence[float], codes: Collection[str] = ()) -> None:
        self._bounds = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0
        self.codes: dict[str, int] = dict.fromkeys(codes, 0)
        self.in_flight = 0

    def begin(self) -> None:
        """A call starts."""
        self.in_flight += 1

    def end(self, seconds: float, code: str) -> None:
        """The call has ended with this code."""
        self.in_flight -= 1
        self.observe(seconds, code)

    def observe(self, seconds: float, code: str) -> None:
        """Count a call whose beginning was not told."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum_s += seconds
        codes = self.codes
        if code not in codes and len(codes) >= MAX_CODES:
            code = _OTHER
        codes[code] = codes.get(code, 0) + 1


class CallMetrics(Collector):
    """Latency histogram and counter by code for one kind of call; with calls in flight where beginnings are told.

    Label values past the cap share the series whose labels are all "other", so a caller cannot grow the page. `codes`
    are shown from 0 on, so that a rate sees the first call that ends with one.
    """

    def __init__(
        self,
        prefix: str,
        what: str,
        label_names: Sequence[str],
        bounds_s: Sequence[float] = DEFAULT_BOUNDS_S,
        *,
        with_in_flight: bool,
        codes: Collection[str] = (),
    ) -> None:
        self._prefix = prefix
        self._what = what
        self._label_names = tuple(label_names)
        self._bounds = tuple(bounds_s)
        self._with_in_flight = with_in_flight
        self._codes = codes
        self._series: dict[tuple[str, ...], CallSeries] = {}

    def series(self, *labels: str) -> CallSeries:
        """Return the series of these label values; looking it up costs little, keeping it costs nothing."""
        found = self._series.get(labels)
        if found is None:
            if len(labels) != len(self._label_names):
                raise ValueError(f"{self._prefix} has the labels {self._label_names}, not {len(labels)} of them")
            if len(self._series) >= MAX_SERIES:
                labels = (_OTHER,) * len(labels)
            found = self._series.setdefault(labels, CallSeries(self._bounds, self._codes))
        return found

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without reading anything."""
        yield from self._shown(*self._families())

    def collect(self) -> Iterator[Metric]:
        """Turn the counts into metrics."""
        latency, total, in_flight = self._families()
        for labels, series in list(self._series.items()):
            latency.add_metric(labels, _cumulative(self._bounds, series.counts), series.sum_s)
            in_flight.add_metric(labels, series.in_flight)
            for code, count in list(series.codes.items()):
                total.add_metric((*labels, code), count)
        yield from self._shown(latency, total, in_flight)

    def _shown(self, latency: Metric, total: Metric, in_flight: Metric) -> tuple[Metric, ...]:
        return (latency, total, in_flight) if self._with_in_flight else (latency, total)

    def _families(self) -> tuple[HistogramMetricFamily, CounterMetricFamily, GaugeMetricFamily]:
        names, what = self._label_names, self._what
        return (
            HistogramMetricFamily(f"{self._prefix}_duration_seconds", f"Duration of {what}.", labels=names),
            CounterMetricFamily(self._prefix, f"Number of {what} by outcome.", labels=(*names, "code")),
            GaugeMetricFamily(f"{self._prefix}_in_flight", f"{what[:1].upper()}{what[1:]} under way.", labels=names),
        )


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
