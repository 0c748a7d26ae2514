"""Docker's frames as CRI text: exact for any content, any chunking."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cri_dockerd_py.logs.cri_format import Entry, parse_line
from cri_dockerd_py.logs.docker_entry import decode_entry, encode_entry
from cri_dockerd_py.logs.docker_frames import DockerFrames
from tests.logs.frames import START_NS, Message, expected, frame

STREAMS = st.sampled_from(["stdout", "stderr"])
PIECES = st.sampled_from(["whole", "whole", "whole", "first", "last"])
CONTENT = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=300),
    st.sampled_from([b"", b"\r", b"a\r", b"\r\r", b"\0" * 30, b"x" * 127, b"x" * 128, b"x" * 2047, b"x" * 2048]),
    st.builds(lambda inner: frame(Message(inner)), st.binary(max_size=20)),  # content that looks like frames
    st.sampled_from([b"y" * 16383, b"z" * 16384]),
).map(lambda content: content.replace(b"\n", b""))
MESSAGES = st.lists(st.builds(Message, CONTENT, STREAMS, PIECES), max_size=30)


def render(chunks: list[bytes]) -> tuple[bytes, bytes]:
    """Render chunk after chunk as the service does; answer the text and what is left."""
    text, rest, floor_ns = b"", b"", 0
    for chunk in chunks:
        data = rest + chunk
        rendered = DockerFrames().render(data, floor_ns)
        assert rendered.skipped_bytes == 0
        assert rendered.lines == rendered.text.count(b"\n")
        text, rest, floor_ns = text + rendered.text, data[rendered.consumed :], rendered.last_ns
    return text, rest


def entries(text: bytes) -> list[Entry]:
    """Parse a log text strictly."""
    parsed = [parse_line(line) for line in text.split(b"\n")[:-1]]
    assert text == b"" or text.endswith(b"\n")
    assert None not in parsed
    return [entry for entry in parsed if entry is not None]


def shown(text: bytes) -> list[tuple[str, str, bytes]]:
    """Stream, tag and content of each line."""
    return [(entry.stream, "P" if entry.partial else "F", entry.content) for entry in entries(text)]


def cut(data: bytes, rng: random.Random, largest: int) -> list[bytes]:
    """Cut bytes at random places."""
    chunks = []
    while data:
        size = rng.randint(1, largest)
        chunks.append(data[:size])
        data = data[size:]
    return chunks


@pytest.mark.behaviour("LOG-01", "LOG-02", "LOG-04", "LOG-06")
@settings(max_examples=150, deadline=None)
@given(MESSAGES, st.integers(0, 2**32), st.sampled_from([3, 50, 5000, 1 << 20]), st.integers(1, 40))
def test_any_content_in_any_chunks_gives_the_same_lines(
    messages: list[Message], seed: int, largest: int, repeats: int
) -> None:
    messages = messages * repeats if largest > 50 else messages
    data = b"".join(map(frame, messages))
    if len(data) // largest > 2000:
        largest = len(data) // 100
    text, rest = render(cut(data, random.Random(seed), largest))
    assert rest == b""
    assert shown(text) == [expected(message) for message in messages]


@pytest.mark.parametrize(
    "odd", [b"", b"a\r", b"\0\0\0\x1f", frame(Message(b"inner")).replace(b"\n", b"\t"), b"L" * 5000]
)
@pytest.mark.parametrize("every", [2, 100, 1000])
def test_large_chunks_with_odd_lines_in_them(odd: bytes, every: int) -> None:
    messages = [
        Message(odd if n % every == 1 else b"line %d" % n, "stderr" if n % (every + 1) == 0 else "stdout")
        for n in range(4000)
    ]
    data = b"".join(map(frame, messages))
    text, rest = render([data[:300_001], data[300_001:]])
    assert rest == b""
    assert shown(text) == [expected(message) for message in messages]


def test_times_are_right_within_two_milliseconds_and_never_go_back() -> None:
    rng = random.Random(7)
    now, messages = START_NS, []
    for n in range(20_000):
        now += rng.choice([100, 3_000, 200_000, 5_000_000])
        messages.append(Message(b"%d" % n, time_ns=now))
    text, _ = render(cut(b"".join(map(frame, messages)), rng, 200_000))
    times = [entry.time_ns for entry in entries(text)]
    assert times == sorted(times)
    assert all(0 <= message.time_ns - time <= 2_200_000 for message, time in zip(messages, times, strict=True))


def test_a_few_lines_have_their_exact_times() -> None:
    messages = [Message(b"x", time_ns=START_NS + n * 7) for n in range(20)]
    text, _ = render([b"".join(map(frame, messages))])
    assert [entry.time_ns for entry in entries(text)] == [message.time_ns for message in messages]


def test_rendering_twice_gives_the_same_text() -> None:
    data = b"".join(frame(Message(b"%d" % n, time_ns=START_NS + n * 999)) for n in range(5000))
    assert DockerFrames().render(data, START_NS) == DockerFrames().render(data, START_NS)


def test_a_torn_frame_is_kept_as_a_partial_line() -> None:
    whole = frame(Message(b"A" * 5000))
    rendered = DockerFrames().flush(whole[:3000], 0)
    assert rendered.consumed == 3000
    [(stream, tag, content)] = shown(rendered.text)
    assert (stream, tag) == ("stdout", "P")
    assert content == b"A" * (3000 - whole.index(b"A"))


@pytest.mark.parametrize("torn", [b"", b"\0\0", frame(Message(b"A" * 500))[:15], frame(Message(b"A" * 500))[:25]])
def test_a_frame_torn_before_its_line_gives_nothing(torn: bytes) -> None:
    assert DockerFrames().flush(torn, 0).text == b""


def test_rubbish_is_skipped_up_to_the_next_frame() -> None:
    data = b"\xff" * 1000 + frame(Message(b"after"))
    rendered = DockerFrames().render(data, 0)
    assert shown(rendered.text) == [("stdout", "F", b"after")]
    assert rendered.skipped_bytes == 1000


def test_a_frame_that_is_no_entry_is_skipped() -> None:
    rendered = DockerFrames().render(b"\0\0\0\x05\x0a\xff\xff\xff\xff" + frame(Message(b"after")), 0)
    assert shown(rendered.text) == [("stdout", "F", b"after")]
    assert rendered.skipped_bytes == 5


@given(st.binary(max_size=300))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    rendered = DockerFrames().render(data, 0)
    assert 0 <= rendered.consumed <= len(data)
    DockerFrames().flush(data, 0)


@given(st.binary(max_size=300).map(lambda b: b.replace(b"\n", b"")), STREAMS, st.booleans())
def test_frames_for_docker_say_what_the_entry_says(content: bytes, stream: str, partial: bool) -> None:
    data = encode_entry(Entry(START_NS, stream, partial, content))
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    entry = decode_entry(data[4:])
    assert entry is not None
    assert (entry.stream, entry.time_ns) == (stream.encode(), START_NS)
    assert entry.line == (content if partial else content + b"\n")
