"""Counting calls."""

from __future__ import annotations

import sys
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from cri_dockerd_py.metrics.calls import DEFAULT_BOUNDS_S, MAX_CODES, MAX_SERIES, CallMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty registry."""
    return CollectorRegistry()


@pytest.fixture
def calls(registry: CollectorRegistry) -> CallMetrics:
    """Calls with one label."""
    made = CallMetrics("calls", "test calls", ("method",), with_in_flight=True)
    registry.register(made)
    return made


def test_a_call(calls: CallMetrics, registry: CollectorRegistry) -> None:
    """It is in flight until it ends, then it has a duration and a code."""
    series = calls.series("List")
    series.begin()
    assert registry.get_sample_value("calls_in_flight", {"method": "List"}) == 1

    series.end(0.03, "OK")

    labels = {"method": "List"}
    assert registry.get_sample_value("calls_in_flight", labels) == 0
    assert registry.get_sample_value("calls_total", {**labels, "code": "OK"}) == 1
    assert registry.get_sample_value("calls_duration_seconds_count", labels) == 1
    assert registry.get_sample_value("calls_duration_seconds_sum", labels) == 0.03
    assert registry.get_sample_value("calls_duration_seconds_bucket", {**labels, "le": "0.025"}) == 0
    assert registry.get_sample_value("calls_duration_seconds_bucket", {**labels, "le": "0.05"}) == 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 100) | st.sampled_from(DEFAULT_BOUNDS_S), max_size=60))
def test_buckets_are_those_of_the_client_library(durations_s: list[float]) -> None:
    """The page says the same as the library's own histogram would."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    calls = CallMetrics("calls", "x", ("method",), with_in_flight=False)
    ours.register(calls)
    reference = Histogram("calls_duration_seconds", "x", ["method"], buckets=DEFAULT_BOUNDS_S, registry=theirs)
    for duration_s in durations_s:
        calls.series("List").observe(duration_s, "OK")
        reference.labels("List").observe(duration_s)
    bounds = [*map(str, DEFAULT_BOUNDS_S), "+Inf"]

    for bound in bounds:
        sample = ("calls_duration_seconds_bucket", {"method": "List", "le": bound})
        assert ours.get_sample_value(*sample) == theirs.get_sample_value(*sample)


def test_label_values_are_bounded(calls: CallMetrics, registry: CollectorRegistry) -> None:
    """A caller that makes up names ends in one shared series, and no call is lost."""
    for number in range(MAX_SERIES + 50):
        calls.series(f"made-up-{number}").observe(0.1, "OK")

    assert len(generate_latest(registry)) < 700_000
    assert registry.get_sample_value("calls_total", {"method": "other", "code": "OK"}) == 50
    assert calls.series("made-up-0") is calls.series("made-up-0")


def test_known_codes_are_shown_from_0_on(registry: CollectorRegistry) -> None:
    """A rate sees nothing of what a sample begins with."""
    calls = CallMetrics("runs", "test runs", ("command",), with_in_flight=False, codes=("OK", "error"))
    registry.register(calls)
    calls.series("ADD").observe(0.1, "OK")

    assert registry.get_sample_value("runs_total", {"command": "ADD", "code": "OK"}) == 1
    assert registry.get_sample_value("runs_total", {"command": "ADD", "code": "error"}) == 0


def test_codes_are_bounded(calls: CallMetrics, registry: CollectorRegistry) -> None:
    """Codes past the bound are counted together."""
    for number in range(MAX_CODES + 5):
        calls.series("List").observe(0.1, f"code-{number}")

    assert registry.get_sample_value("calls_total", {"method": "List", "code": "other"}) == 5


def test_a_wrong_number_of_labels_is_refused(calls: CallMetrics) -> None:
    """A programming mistake shows at once."""
    with pytest.raises(ValueError, match="labels"):
        calls.series("one", "two")


def test_counting_is_cheap(calls: CallMetrics) -> None:
    """One RPC's counting, looking the series up included, stays far below 3 µs."""
    if sys.gettrace() is not None:
        pytest.skip("a tracer that follows every line makes times meaningless")

    def count() -> None:
        series = calls.series("List")
        series.begin()
        series.end(0.003, "OK")

    assert min(timeit.repeat(count, number=2000, repeat=20)) / 2000 < 3e-6
