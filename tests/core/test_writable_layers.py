"""Measuring writable layers in the background."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.core.writable_layers import PERIOD_S, WritableLayers, fair_periods
from tests.cgroups.host import until


@given(st.dictionaries(st.text(max_size=4), st.floats(0, 100, allow_subnormal=False), max_size=60))
def test_all_together_stay_below_the_duty(costs_s: dict[str, float]) -> None:
    """Whatever measuring costs, the mean load is bounded, and nothing is measured more often than each period."""
    periods = fair_periods(costs_s, 0.003)

    assert periods.keys() == costs_s.keys()
    assert all(period >= PERIOD_S for period in periods.values())
    assert sum(cost / periods[key] for key, cost in costs_s.items()) <= 0.003 * 1.000001


def test_cheap_layers_do_not_wait_for_an_expensive_one() -> None:
    """Only the expensive layer is measured rarely."""
    periods = fair_periods({"big": 1.0, **{f"small{number}": 0.0002 for number in range(50)}}, 0.003)

    assert all(period == PERIOD_S for key, period in periods.items() if key != "big")
    assert 300 < periods["big"] < 600


@pytest.fixture
def paths() -> dict[str, str]:
    """Container id → layer."""
    return {}


@pytest.fixture
def layers(paths: dict[str, str]) -> Iterator[WritableLayers]:
    """A running measurer."""
    made = WritableLayers(lambda: dict(paths))
    made.start()
    yield made
    made.close()


def layer(directory: Path, size_bytes: int = 100_000) -> str:
    """Make a layer with one file."""
    directory.mkdir()
    (directory / "file").write_bytes(b"x" * size_bytes)
    return str(directory)


def test_a_new_layer_is_measured_at_once(layers: WritableLayers, paths: dict[str, str], tmp_path: Path) -> None:
    """The first question starts the measurement, well before the period is over."""
    began_ns = time.time_ns()
    paths["a"] = layer(tmp_path / "a")

    until(lambda: layers.usage("a") is not None, "a measurement", PERIOD_S / 2)

    usage = layers.usage("a")
    assert usage is not None
    assert usage.used_bytes >= 100_000
    assert usage.inodes_used == 2
    assert usage.timestamp_ns >= began_ns


@pytest.mark.behaviour("STS-05")
def test_changes_are_seen_after_a_period(tmp_path: Path) -> None:
    """The value is cached for a period, not for ever, and not measured again before."""
    path = layer(tmp_path / "a")
    layers = WritableLayers(lambda: {"a": path}, period_s=0.5)
    layers.start()
    try:
        until(lambda: layers.usage("a") is not None, "a measurement")
        first = layers.usage("a")
        (tmp_path / "a/more").touch()
        for _ in range(20):
            layers.usage("unknown")
        until(lambda: layers.usage("a") != first, "a second one")
        second = layers.usage("a")
    finally:
        layers.close()

    assert first is not None
    assert second is not None
    assert second.inodes_used == 3
    assert second.timestamp_ns - first.timestamp_ns > 400_000_000


def test_an_unreadable_layer_has_no_usage_and_harms_no_other(
    layers: WritableLayers, paths: dict[str, str], tmp_path: Path
) -> None:
    """A path that is wrong, empty or gone is left out."""
    paths.update({"gone": str(tmp_path / "gone"), "none": "", "good": layer(tmp_path / "good")})

    until(lambda: layers.usage("good") is not None, "a measurement")

    assert layers.usage("gone") is None
    assert layers.usage("none") is None
    assert layers.total().inodes_used == 2


def test_the_total(layers: WritableLayers, paths: dict[str, str], tmp_path: Path) -> None:
    """All layers are added up; without any the sum is 0, with a time."""
    assert layers.total().used_bytes == 0
    assert layers.total().timestamp_ns > 0
    paths.update({name: layer(tmp_path / name) for name in "ab"})
    until(lambda: all(layers.usage(name) is not None for name in "ab"), "two measurements")

    assert layers.total().inodes_used == 4
    assert layers.total().used_bytes >= 200_000


def test_a_removed_container_is_forgotten(layers: WritableLayers, paths: dict[str, str], tmp_path: Path) -> None:
    """Its layer no longer counts."""
    paths["a"] = layer(tmp_path / "a")
    until(lambda: layers.usage("a") is not None, "a measurement")
    del paths["a"]
    layers.usage("unknown")

    until(lambda: layers.total().inodes_used == 0, "forgetting", PERIOD_S / 2)


def test_a_failing_list_does_not_end_the_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After an error measuring goes on."""
    answers = iter([RuntimeError("no list")])
    path = layer(tmp_path / "a")

    def listed() -> dict[str, str]:
        for error in answers:
            raise error
        return {"a": path}

    layers = WritableLayers(listed)
    layers.start()
    try:
        until(lambda: "no list" in caplog.text, "the failure")
        until(lambda: layers.usage("a") is not None, "a measurement", PERIOD_S / 2)
    finally:
        layers.close()


def test_closing_ends_a_long_walk(tmp_path: Path) -> None:
    """A walk through very many files does not hold up the end of the service; closing twice is fine."""
    top = tmp_path / "many"
    top.mkdir()
    for number in range(20_000):
        os.close(os.open(top / str(number), os.O_CREAT))
    started = []

    def listed() -> dict[str, str]:
        started.append(True)
        return {"a": str(top)}

    layers = WritableLayers(listed)
    layers.start()
    until(lambda: bool(started), "the walk")
    began = time.monotonic()

    layers.close()
    layers.close()

    assert time.monotonic() - began < 0.5
    assert layers.usage("a") is None


def test_a_long_walk_rests(tmp_path: Path) -> None:
    """While many files are measured the thread takes a fraction of a core only."""
    top = tmp_path / "many"
    top.mkdir()
    for number in range(20_000):
        os.close(os.open(top / str(number), os.O_CREAT))
    layers = WritableLayers(lambda: {"a": str(top)})
    began, began_cpu = time.monotonic(), time.process_time()
    layers.start()
    try:
        until(lambda: layers.usage("a") is not None, "a measurement", 30)
        share = (time.process_time() - began_cpu) / (time.monotonic() - began)
    finally:
        layers.close()

    assert share < 0.6
