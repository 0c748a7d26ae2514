"""The service's own metrics."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cri_dockerd_py.metrics.registry import PREFIX, ServiceMetrics


@pytest.fixture
def metrics() -> ServiceMetrics:
    """Fresh metrics."""
    return ServiceMetrics("1.2.3")


def test_names(metrics: ServiceMetrics) -> None:
    """All names but the process's begin with the service's, and each has a help text."""
    for family in text_string_to_metric_families(metrics.page().decode()):
        assert re.fullmatch(rf"(process|{PREFIX})_[a-z_]+", family.name)
        assert family.documentation


def test_everything_is_on_the_page(metrics: ServiceMetrics) -> None:
    """What rooms count can be read back."""
    metrics.rpcs.series("Version").observe(0.001, "OK")
    metrics.engine_calls.series("docker", "start").observe(0.2, "Unavailable")
    metrics.cni_calls.series("bridge", "ADD").observe(0.03, "OK")
    metrics.image_pulls.series("docker").observe(20.0, "OK")
    metrics.pulled_bytes.labels("docker").inc(1000)
    metrics.engine_ready.labels("docker").set(1)
    metrics.event_lag.labels("docker").observe(0.02)
    metrics.event_gaps.labels("docker").inc()
    metrics.resyncs.labels("docker").inc()
    metrics.resync_drift.labels("docker").inc(2)
    metrics.streaming_sessions.labels("exec").inc()
    metrics.streaming_started.labels("exec").inc()
    metrics.streaming_bytes.labels("exec", "out").inc(5)
    metrics.loop_lag.observe(0.001)
    metrics.loop_tasks.set_function(lambda: 12.0)
    metrics.objects.read_with(lambda: {("docker", "container", "RUNNING"): 3})
    metrics.log_lines.read_with(lambda: {("written",): 7})
    value = metrics.registry.get_sample_value

    assert value(f"{PREFIX}_build_info", {"version": "1.2.3"}) == 1
    assert value(f"{PREFIX}_rpc_total", {"method": "Version", "code": "OK"}) == 1
    engine_call = {"engine": "docker", "operation": "start", "code": "Unavailable"}
    assert value(f"{PREFIX}_engine_call_total", engine_call) == 1
    assert value(f"{PREFIX}_cni_call_duration_seconds_sum", {"plugin": "bridge", "command": "ADD"}) == 0.03
    assert value(f"{PREFIX}_image_pull_duration_seconds_bucket", {"engine": "docker", "le": "30.0"}) == 1
    assert value(f"{PREFIX}_image_pulled_bytes_total", {"engine": "docker"}) == 1000
    assert value(f"{PREFIX}_resync_drift_total", {"engine": "docker"}) == 2
    assert value(f"{PREFIX}_objects", {"engine": "docker", "kind": "container", "state": "RUNNING"}) == 3
    assert value(f"{PREFIX}_log_lines_total", {"kind": "written"}) == 7
    assert value(f"{PREFIX}_loop_tasks") == 12
    assert (value("process_resident_memory_bytes") or 0) > 1_000_000


def test_two_services_in_one_process_do_not_meet(metrics: ServiceMetrics) -> None:
    """There is no global registry."""
    metrics.rpcs.series("Version").observe(0.001, "OK")

    assert b'method="Version"' not in ServiceMetrics().page()


def test_a_failing_callback_leaves_the_page_whole(metrics: ServiceMetrics, caplog: pytest.LogCaptureFixture) -> None:
    """Its metric is empty in this scrape, and the failure is logged."""

    def fail() -> dict[tuple[str, ...], float]:
        raise RuntimeError("no inventory")

    metrics.objects.read_with(fail)
    metrics.rpcs.series("Version").observe(0.001, "OK")

    assert b'method="Version"' in metrics.page()
    assert "no inventory" in caplog.text
