"""Metrics that are read from somebody else's counts at scrape time, so that counting costs nothing twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Values = Mapping[tuple[str, ...], float]
_LOG = logging.getLogger(__name__)


class CallbackMetric(Collector):
    """A gauge or counter whose values a function returns as label values → number; without one it is empty."""

    def __init__(
        self,
        family: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        help: str,
        label_names: Sequence[str],
    ) -> None:
        self._family = family
        self._name = name
        self._help = help
        self._label_names = tuple(label_names)
        self._read: Callable[[], Values] = dict

    def read_with(self, read: Callable[[], Values]) -> None:
        """Set the function; it is called in the loop's thread at every scrape."""
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Name the metric without reading anything."""
        yield self._family(self._name, self._help, labels=self._label_names)

    def collect(self) -> Iterator[Metric]:
        """Ask the function; one that fails leaves its metric empty and the page whole."""
        family = self._family(self._name, self._help, labels=self._label_names)
        try:
            for labels, value in self._read().items():
                family.add_metric(labels, value)
        except Exception:
            _LOG.exception("reading the metric %s failed; it is left out of this scrape", self._name)
        yield family
