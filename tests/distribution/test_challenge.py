"""WWW-Authenticate as registries write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.distribution.rules.challenge import Challenge, parse_challenges, preferred

_BEARER = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            [_BEARER],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (['Basic realm="r"'], [("basic", {"realm": "r"})]),
        (["basic"], [("basic", {})]),
        (
            ['Basic realm="a, b", Bearer realm=x , service = y'],
            [("basic", {"realm": "a, b"}), ("bearer", {"realm": "x", "service": "y"})],
        ),
        (["Negotiate, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate YWJj==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Basic REALM="quo\\"ted"'], [("basic", {"realm": 'quo"ted'})]),
        (["Basic realm=a", "Bearer realm=b"], [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        (['Bearer realm="a",realm="b"'], [("bearer", {"realm": "a"})]),
        ([",, Basic realm=x ,"], [("basic", {"realm": "x"})]),
        (["", "   ", '"', "="], []),
    ],
)
def test_challenges_are_read(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(found.scheme, found.parameters) for found in parse_challenges(headers)] == expected


def test_tokens_are_preferred_over_passwords() -> None:
    basic, bearer, digest = Challenge("basic"), Challenge("bearer"), Challenge("digest")
    assert preferred([digest, basic, bearer]) == bearer
    assert preferred([digest, basic]) == basic
    assert preferred([digest]) is None


@given(st.lists(st.text(max_size=200), max_size=3))
def test_no_header_is_too_strange(headers: list[str]) -> None:
    parse_challenges(headers)


@given(st.text(alphabet=st.characters(exclude_categories=["C"], codec="latin-1"), max_size=50))
def test_quoted_values_come_back(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    (found,) = parse_challenges([f'Bearer realm="{quoted}"'])
    assert found.parameters == {"realm": value}


def test_a_long_header_is_read_in_no_time() -> None:
    parse_challenges(['Bearer realm="' + "\\" * 10**6, "a" * 10**6, "a=" * 10**6, ", " * 10**6])
