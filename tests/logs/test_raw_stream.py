"""Raw bytes as CRI text: exact for any content, any chunking."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cri_dockerd_py.logs.cri_format import parse_line
from cri_dockerd_py.logs.raw_stream import MAX_LINE_BYTES, RawStream

NOW_NS = 1_790_000_000_000_000_007
LONG = MAX_LINE_BYTES
LINES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r", b"a\r", b"\r\r", b"\r\n\r", b"\0" * 30, b"\xff\xfe", b"\n\n\n"]),
    st.sampled_from([LONG - 1, LONG, LONG + 1, 2 * LONG, 2 * LONG + 1, 5 * LONG + 17]).map(lambda size: b"y" * size),
    st.sampled_from([LONG - 1, LONG, LONG + 1, 2 * LONG]).map(lambda size: b"z" * size + b"\r"),
)


def expected(data: bytes) -> list[tuple[str, bytes]]:
    """Tag and content of each entry, by the rules and line by line."""
    *lines, rest = data.split(b"\n")
    found = [entry for line in lines for entry in pieces(line.removesuffix(b"\r"), "F")]
    return found + (pieces(rest, "P") if rest else [])


def pieces(line: bytes, last_tag: str) -> list[tuple[str, bytes]]:
    """A line as it is cut."""
    cut = [line[at : at + LONG] for at in range(0, len(line), LONG)] or [b""]
    return [("P", piece) for piece in cut[:-1]] + [(last_tag, cut[-1])]


def shown(text: bytes) -> list[tuple[str, bytes]]:
    """Tag and content of each line of a log."""
    assert text == b"" or text.endswith(b"\n")
    entries = [parse_line(line) for line in text.split(b"\n")[:-1]]
    assert all(entry is not None and (entry.time_ns, entry.stream) == (NOW_NS, "stderr") for entry in entries)
    return [("P" if entry.partial else "F", entry.content) for entry in entries if entry is not None]


def render(data: bytes, cut_at: list[int]) -> bytes:
    """Render as the service does, chunk after chunk, and then the end."""
    decoder, text, rest = RawStream("stderr"), b"", b""
    for begin, end in zip([0, *cut_at], [*cut_at, len(data)], strict=True):
        pending = rest + data[begin:end]
        rendered = decoder.render(pending, NOW_NS)
        assert rendered.lines == rendered.text.count(b"\n")
        assert (rendered.last_ns, rendered.skipped_bytes) == (NOW_NS, 0)
        text, rest = text + rendered.text, pending[rendered.consumed :]
        assert len(rest) <= MAX_LINE_BYTES + 1
        assert decoder.render(rest, NOW_NS).text == b""
    flushed = decoder.flush(rest, NOW_NS)
    assert flushed.consumed == len(rest)
    return text + flushed.text


@pytest.mark.behaviour("LOG-01", "LOG-02", "LOG-04")
@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=12), st.booleans(), st.integers(0, 2**32), st.integers(0, 12))
def test_any_content_in_any_chunks_gives_the_same_lines(lines: list[bytes], ends: bool, seed: int, cuts: int) -> None:
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    rng = random.Random(seed)
    near_ends = [at + rng.randint(-2, 2) for at, byte in enumerate(data) if byte == 10]
    cut_at = [*rng.sample(near_ends, min(cuts, len(near_ends))), *(rng.randint(0, len(data)) for _ in range(cuts))]
    assert shown(render(data, sorted(min(max(at, 0), len(data)) for at in cut_at))) == expected(data)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"x" * (LONG - 1)]), max_size=12))
def test_byte_by_byte_around_the_limit(parts: list[bytes]) -> None:
    data = b"".join(parts)
    near = [at for at in range(len(data)) if at % LONG < 3 or at % LONG > LONG - 3]
    assert shown(render(data, near)) == expected(data)


@pytest.mark.parametrize("every", [1, 2, 50, 3000])
def test_large_chunks_with_long_lines_in_them(every: int) -> None:
    lines = [b"L" * (3 * LONG + n) if n % every == every - 1 else b"line %d" % n for n in range(min(6000, 100 * every))]
    data = b"\n".join(lines)
    assert shown(render(data, list(range(250_000, len(data), 250_000)))) == expected(data)


def test_ordinary_lines_cost_little() -> None:
    data = b"a log line of roughly one hundred bytes, as applications tend to write them to standard output\n" * 2700
    decoder = RawStream("stdout")
    begin = time.process_time()
    for _ in range(40):
        decoder.render(data, NOW_NS)
    assert 40 * len(data) / (time.process_time() - begin) > 100e6  # three times this on the machine it was written on
