"""Stop signals as images write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.model.signals import LAST_SIGNAL, SIGTERM, parse_signal, signal_name


@pytest.mark.parametrize(
    ("text", "name"),
    [("SIGUSR1", "SIGUSR1"), ("usr1", "SIGUSR1"), ("10", "SIGUSR1"), ("RTMIN+3", "SIGRTMIN+3"), ("", "SIGTERM")],
)
def test_forms(text: str, name: str) -> None:
    assert signal_name(parse_signal(text)) == name


@pytest.mark.parametrize("text", ["9" * 5000, "-9", "SIGRTMIN+" + "9" * 5000, "65", "\u0661", "SIG\0TERM"])
def test_what_is_no_signal_is_the_polite_one(text: str) -> None:
    assert parse_signal(text) == SIGTERM


@given(st.text() | st.from_regex(r"\A(SIG)?(RTMIN|RTMAX)?[+-]*[0-9]*\Z"))
def test_any_text_is_a_signal(text: str) -> None:
    assert 0 < parse_signal(text) <= LAST_SIGNAL
