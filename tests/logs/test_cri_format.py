"""The CRI line format."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.logs.cri_format import Entry, not_before, parse_line, parse_time_ns, timestamp


@pytest.mark.behaviour("LOG-01")
@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999_999))
def test_timestamp_is_rfc3339_with_nine_digits_and_reads_back(second: int, fraction: int) -> None:
    text = timestamp(second * 10**9 + fraction)
    assert text == datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode() + b".%09dZ" % fraction
    assert parse_time_ns(text) == second * 10**9 + fraction


@pytest.mark.behaviour("LOG-01", "LOG-04")
@given(st.binary().filter(lambda b: b"\n" not in b), st.sampled_from(["stdout", "stderr"]), st.booleans())
def test_any_content_reads_back(content: bytes, stream: str, partial: bool) -> None:
    line = b"2026-01-02T03:04:05.000000006Z %b %b %b" % (stream.encode(), b"P" if partial else b"F", content)
    time_ns = parse_time_ns(b"2026-01-02T03:04:05.000000006Z")
    assert time_ns is not None
    assert parse_line(line) == Entry(time_ns, stream, partial, content)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (b"2026-01-02T03:04:05Z", b"2026-01-02T03:04:05.000000000Z"),
        (b"2026-01-02T03:04:05.5+01:30", b"2026-01-02T01:34:05.500000000Z"),
        (b"2026-01-02T03:04:05.123-02:00", b"2026-01-02T05:04:05.123000000Z"),
    ],
)
def test_zones_and_short_fractions_are_read(text: bytes, same: bytes) -> None:
    assert parse_time_ns(text) == parse_time_ns(same) is not None


@pytest.mark.parametrize(
    "line", [b"", b"hello", b'{"log":"x\\n"}', b"2026-13-02T03:04:05Z stdout X", b"2026-01-02T03:04:05Z stdin F x"]
)
def test_other_formats_are_not_taken_for_it(line: bytes) -> None:
    entry = parse_line(line)
    assert entry is None or not entry.partial


def test_tags_after_the_first_are_ignored() -> None:
    entry = parse_line(b"2026-01-02T03:04:05Z stderr P:x:y  two")
    assert entry is not None
    assert (entry.stream, entry.partial, entry.content) == ("stderr", True, b" two")


def test_time_does_not_go_back_unless_the_clock_was_set() -> None:
    assert not_before(100, 50) == 100
    assert not_before(50, 100) == 100
    assert not_before(50, 100 * 10**9) == 50
