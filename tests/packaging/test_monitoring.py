"""The dashboard and the alert rules ask only for what the service shows, and for what is scraped."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cri_dockerd_py.errors import OK, CriError, NotFound, outcome_of
from cri_dockerd_py.metrics.registry import PREFIX, ServiceMetrics
from tests.packaging.promtool import promtool

PACKAGING = Path(__file__).parents[2] / "packaging"
DASHBOARD = PACKAGING / "grafana" / "cri-dockerd-py.json"
ALERTS = PACKAGING / "prometheus" / "alerts.yaml"
SCRAPE = PACKAGING / "prometheus" / "scrape.yml"
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture(scope="module")
def shown() -> set[str]:
    """The names of all samples that the service can show."""
    families = ServiceMetrics().registry.collect()
    return {f"{family.name}{suffix}" for family in families for suffix in _SUFFIXES[family.type]}


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels."""
    return list(json.loads(DASHBOARD.read_text())["panels"])


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Return (panel, query)."""
    for panel in panels():
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

    assert names or re.search(r"\bup{", query), title
    assert names <= shown


def test_every_metric_of_the_service_is_on_the_dashboard(shown: set[str]) -> None:
    asked = set().union(*(names_in(query) for _, query in dashboard_queries()))
    families = {re.sub(r"_(total|bucket|count|sum|duration_seconds\w*)$", "", name) for name in shown}
    told = {re.sub(r"_(total|bucket|count|sum|duration_seconds\w*)$", "", name) for name in asked}
    own = {name for name in families if name.startswith(PREFIX)}

    assert own <= told


def test_alerts_fire_when_they_should_and_only_then() -> None:
    scenarios = Path(__file__).with_name("alerts_test.yaml")
    for words in (["check", "rules", ALERTS], ["test", "rules", scenarios]):
        done = subprocess.run([promtool(), *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_scrapes_are_valid_and_of_jobs_that_the_alerts_know() -> None:
    done = subprocess.run([promtool(), "check", "config", SCRAPE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    (down,) = (query for alert, query in alert_queries() if alert == "CriServerDown")
    (known,) = re.findall(r'job=~"([^"]*)"', down)
    jobs = [job["job_name"] for job in yaml.safe_load(SCRAPE.read_text())["scrape_configs"]]
    assert jobs
    assert all(re.fullmatch(known, job) for job in jobs)


def test_every_alert_is_named_by_the_panel_that_shows_it() -> None:
    descriptions = " ".join(panel.get("description", "") for panel in panels())

    assert [alert for alert, _ in alert_queries() if alert not in descriptions] == []


def test_panels_fill_a_grid_of_24_columns() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells

    assert taken == {(x, y) for x in range(24) for y in range(max(y for _, y in taken) + 1)}


def test_engine_calls_that_end_as_they_may_are_no_failures() -> None:
    """That what was asked for is not there is an answer; every other code is one that the service can give."""
    (query,) = (query for title, query in dashboard_queries() if title == "Engine calls that failed")
    (excluded,) = re.findall(r'code!~"([^"]*)"', query)

    kinds = {kind.__name__ for kind in CriError.__subclasses__()} | {OK, outcome_of(asyncio.CancelledError())}
    assert set(excluded.split("|")) < kinds
    assert outcome_of(NotFound()) in excluded
