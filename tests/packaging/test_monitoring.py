"""The dashboard and the alert rules ask only for what the service shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cri_dockerd_py.metrics.registry import PREFIX, ServiceMetrics

PACKAGING = Path(__file__).parents[2] / "packaging"
DASHBOARD = PACKAGING / "grafana" / "cri-dockerd-py.json"
ALERTS = PACKAGING / "prometheus" / "alerts.yaml"
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture(scope="module")
def shown() -> set[str]:
    """The names of all samples that the service can show."""
    families = ServiceMetrics().registry.collect()
    return {f"{family.name}{suffix}" for family in families for suffix in _SUFFIXES[family.type]}


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Return (panel, query)."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def alert_queries() -> Iterator[tuple[str, str]]:
    """Return (alert, query)."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def names_in(query: str) -> set[str]:
    """Return the metrics that a query asks for."""
    return set(re.findall(rf"\b(?:{PREFIX}|process)_\w+", re.sub(r'"[^"]*"', "", query)))


QUERIES = [*dashboard_queries(), *alert_queries()]


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_query_asks_for_what_there_is(title: str, query: str, shown: set[str]) -> None:
    names = names_in(query)

    assert names or query.startswith("up{"), title
    assert names <= shown


def test_every_metric_of_the_service_is_on_the_dashboard(shown: set[str]) -> None:
    """But for those that only tell what else is told there."""
    asked = set().union(*(names_in(query) for _, query in QUERIES))
    families = {re.sub(r"_(total|bucket|count|sum|duration_seconds\w*)$", "", name) for name in shown}
    told = {re.sub(r"_(total|bucket|count|sum|duration_seconds\w*)$", "", name) for name in asked}
    own = {name for name in families if name.startswith(PREFIX)}

    assert own - told == {f"{PREFIX}_build_info"}
