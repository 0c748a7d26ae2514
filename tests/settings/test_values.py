"""How single values are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.settings import values

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5))
def test_durations_are_the_sum_of_their_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)
    assert values.parse_duration(text) == pytest.approx(sum(count * UNITS[unit] for count, unit in parts))


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("1m0s", 60), ("1.5h", 5400), (".5s", 0.5), ("90", 90), (3, 3), ("-2s", -2)]
)
def test_durations(text: object, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1x", "1m 2s", "m1", "1m2", "--1s", None, True, [1]])
def test_bad_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        values.parse_duration(text)


@given(st.text())
def test_durations_never_fail_otherwise(text: str) -> None:
    try:
        values.parse_duration(text)
    except ValueError as error:
        assert "expected a duration" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "full"),
    [("fd://", "fd://"), ("/run/x.sock", "unix:///run/x.sock"), ("unix:///run/x.sock", "unix:///run/x.sock")],
)
def test_listen_endpoints(text: str, full: str) -> None:
    assert values.check_listen_endpoint(text) == full


@pytest.mark.parametrize(
    "text", ["", "run/x.sock", "unix://run/x", "tcp://127.0.0.1:1", "fd://name", "/" + "x" * 107, "npipe:////./pipe/x"]
)
def test_bad_listen_endpoints(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|supported|bytes"):
        values.check_listen_endpoint(text)


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("", ""),
        ("127.0.0.1", "127.0.0.1:0"),
        (":10010", ":10010"),
        ("[::1]:5", "[::1]:5"),
        ("[::]", "[::]:0"),
        ("h:1", "h:1"),
    ],
)
def test_bind_addresses(text: str, full: str) -> None:
    assert values.check_bind_address(text) == full


@pytest.mark.parametrize("text", ["::1", "a:b", "a:70000", "a:1:2", "a:-1", "a:+1"])
def test_bad_bind_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        values.check_bind_address(text)


@pytest.mark.parametrize("text", ["9580", "9580:1"])
def test_a_port_is_not_taken_for_a_host(text: str) -> None:
    with pytest.raises(ValueError, match="all addresses is written :9580"):
        values.check_bind_address(text)


@pytest.mark.parametrize("text", ["", "127.0.0.1:9580", ":9580", "[::1]:9580", "127.0.0.1:0"])
def test_metrics_addresses(text: str) -> None:
    assert values.check_metrics_address(text) == text


@pytest.mark.parametrize("text", ["127.0.0.1", "[::1]", "node", "9580"])
def test_a_metrics_address_has_a_port(text: str) -> None:
    with pytest.raises(ValueError, match=":9580"):
        values.check_metrics_address(text)


def test_lists_are_split_at_commas() -> None:
    assert values.split_commas(" /a, /b,,") == ("/a", "/b")
    assert values.split_commas([Path("/a")]) == (Path("/a"),)


def test_an_empty_docker_endpoint_means_dockers_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    assert values.default_docker_endpoint("") == "unix:///run/other.sock"
    monkeypatch.delenv("DOCKER_HOST")
    assert values.default_docker_endpoint("") == "unix:///var/run/docker.sock"


@pytest.mark.parametrize("text", ["", "127.0.0.1:4317", "collector.example:4317", "[::1]:4317", "https://a:1"])
def test_tracing_endpoints(text: str) -> None:
    assert values.check_tracing_endpoint(text) == text


@pytest.mark.parametrize(
    "text", ["a", "a:", ":4317", "a:0", "a:70000", "::1:4317", "grpc://a:1", "http://a:1/x", "u@a:1"]
)
def test_bad_tracing_endpoints(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        values.check_tracing_endpoint(text)
