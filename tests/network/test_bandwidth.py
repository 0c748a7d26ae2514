from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.network.bandwidth import bandwidth_capability, parse_quantity

INGRESS = "kubernetes.io/ingress-bandwidth"
EGRESS = "kubernetes.io/egress-bandwidth"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10M", 10_000_000),
        ("1k", 1000),
        ("1P", 10**15),
        ("1.5Gi", 1.5 * 2**30),
        ("2e6", 2_000_000),
        ("2E6", 2_000_000),
        ("1E", 10**18),
        ("500m", 0.5),
        (".5k", 500),
        ("1.k", 1000),
        ("-3", -3),
        ("+4Ki", 4096),
    ],
)
def test_quantities(text: str, value: float) -> None:
    assert parse_quantity(text) == Decimal(str(value))


@pytest.mark.parametrize("text", ["", "M", "10 M", "10MB", "1e", "0x10", "1_000", "1e999", "inf", "٣", "1k\n"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not a quantity"):
        parse_quantity(text)


@given(st.text(alphabet="0123456789.eE+-kKMGTPim", max_size=10))
def test_any_text_is_a_finite_number_or_the_error(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert parse_quantity(text).is_finite()


def test_limits_with_the_burst_that_every_plugin_takes() -> None:
    assert bandwidth_capability({}) == {}
    assert bandwidth_capability({INGRESS: "10M"}) == {"ingressRate": 10_000_000, "ingressBurst": 2147483647}
    assert bandwidth_capability({EGRESS: "1Mi", INGRESS: "1k"}) == {
        "ingressRate": 1000,
        "ingressBurst": 2147483647,
        "egressRate": 1048576,
        "egressBurst": 2147483647,
    }


@pytest.mark.parametrize("text", ["999", "0", "-1M", "1.1P", "fast"])
def test_limits_out_of_range(text: str) -> None:
    with pytest.raises(InvalidArgument):
        bandwidth_capability({EGRESS: text})
