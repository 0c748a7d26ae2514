"""SPDY: recorded frames in both directions, any cut of the bytes, hostile bytes."""

from __future__ import annotations

import hashlib
import itertools
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cri_dockerd_py.streaming.protocol import spdy_frames as frames
from cri_dockerd_py.streaming.protocol.spdy_connection import (
    MAX_STREAMS,
    Event,
    PeerLeft,
    SpdyConnection,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from cri_dockerd_py.streaming.protocol.spdy_dictionary import DICTIONARY
from cri_dockerd_py.streaming.protocol.spdy_headers import HeaderDecoder, HeaderEncoder
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation, Violated
from tests.streaming.protocol.transcripts import SPDY_SCENARIOS, TRANSCRIPTS, Scenario, cut

_DIRECTIONS = ("c2s", "s2c")


def read_frames(data: bytes) -> list[frames.Frame]:
    taken: list[frames.Frame] = []
    frames.FrameReader().feed(data, taken)
    return taken


def describe(frame: frames.Frame, inflate: HeaderDecoder) -> dict[str, Any]:
    """Put a frame into the words of the transcripts."""
    match frame:
        case frames.SynStream():
            words: dict[str, Any] = {"frame": "SYN_STREAM", "flags": frame.flags, "stream": frame.stream_id}
            return words | {"assoc": 0, "priority": 0, "slot": 0, "headers": inflate.decode(frame.block)}
        case frames.SynReply():
            headers = inflate.decode(frame.block)
            return {"frame": "SYN_REPLY", "flags": frame.flags, "stream": frame.stream_id, "headers": headers}
        case frames.RstStream():
            return {"frame": "RST_STREAM", "flags": 0, "stream": frame.stream_id, "status": frame.status}
        case frames.GoAway():
            words = {"frame": "GOAWAY", "flags": 0, "last_good_stream": frame.last_stream_id}
            return words | {"status": frame.status}
        case frames.Ping():
            return {"frame": "PING", "flags": 0, "id": frame.ping_id}
        case frames.DataPiece():
            text = frame.data.decode("latin-1")
            return {"frame": "DATA", "stream": frame.stream_id, "flags": int(frame.fin), "data": text}
    raise AssertionError(f"unexpected {frame}")


def encode(frame: frames.Frame, inflate: HeaderDecoder, deflate: HeaderEncoder) -> bytes:
    match frame:
        case frames.SynStream():
            block = deflate.encode(inflate.decode(frame.block))
            return frames.encode_syn_stream(frame.stream_id, block, frame.flags)
        case frames.SynReply():
            return frames.encode_syn_reply(frame.stream_id, deflate.encode(inflate.decode(frame.block)))
        case frames.RstStream():
            return frames.encode_rst_stream(frame.stream_id, frame.status)
        case frames.GoAway():
            return frames.encode_go_away(frame.last_stream_id, frame.status)
        case frames.Ping():
            return frames.encode_ping(frame.ping_id)
        case frames.DataPiece():
            return frames.encode_data(frame.stream_id, frame.data, fin=frame.fin)
    raise AssertionError(f"unexpected {frame}")


@pytest.mark.parametrize("direction", _DIRECTIONS)
@pytest.mark.parametrize("scenario", SPDY_SCENARIOS, ids=str)
def test_recorded_frames_are_read(scenario: Scenario, direction: str) -> None:
    inflate = HeaderDecoder()
    read = [describe(frame, inflate) for frame in read_frames(scenario.bytes_of(direction))]
    assert read == [meaning for _, meaning in scenario.frames(direction)]


@pytest.mark.parametrize("direction", _DIRECTIONS)
@pytest.mark.parametrize("scenario", SPDY_SCENARIOS, ids=str)
def test_frames_are_written_as_recorded(scenario: Scenario, direction: str) -> None:
    """Frames without headers come out byte for byte; compressed blocks differ, so these are read again."""
    inflate, deflate, again = HeaderDecoder(), HeaderEncoder(), HeaderDecoder()
    for raw, meaning in scenario.frames(direction):
        [frame] = read_frames(raw)
        written = encode(frame, inflate, deflate)
        if "headers" in meaning:
            assert describe(read_frames(written)[0], again) == meaning
        else:
            assert written == raw


def test_frame_vectors_mean_what_they_say() -> None:
    connection = SpdyConnection()
    vectors = {vector["description"]: bytes.fromhex(vector["hex"]) for vector in TRANSCRIPTS["frame_vectors"]}
    seen = {name: connection.receive(raw) for name, raw in vectors.items() if not name.startswith("SYN_REPLY")}

    def of(start: str) -> list[Event]:
        return next(events for name, events in seen.items() if name.startswith(start))

    assert of("SYN_STREAM stream 1") == [StreamOpened(1, {"streamtype": "error"})]
    assert of("SYN_STREAM stream 3") == [StreamOpened(3, {"streamtype": "stdin"}), StreamEnded(3)]
    [opened] = of("SYN_STREAM stream 5")
    assert isinstance(opened, StreamOpened)
    assert opened.headers["streamtype"] == "stdout"
    assert of("SETTINGS") == of("WINDOW_UPDATE") == []
    assert of("RST_STREAM stream 3 CANCEL") == [StreamReset(3, 5)]
    assert of("GOAWAY") == [PeerLeft(0)]
    assert of("DATA stream 3") == []
    assert connection.take_answers() == vectors["PING id 1 (client): answer with the same 12 bytes"]


def test_dictionary_is_the_specified_one() -> None:
    expected = TRANSCRIPTS["spdy_dictionary"]
    assert len(DICTIONARY) == expected["length"]
    assert hashlib.sha256(DICTIONARY).hexdigest() == expected["sha256"]


def merged(events: list[Event]) -> list[Event]:
    """Join neighbouring data of a stream, which is cut where the received bytes are cut."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, StreamData) and isinstance(last, StreamData) and event.stream_id == last.stream_id:
            joined[-1] = StreamData(event.stream_id, last.data + event.data)
        else:
            joined.append(event)
    return joined


def run_connection(pieces: list[bytes]) -> tuple[list[Event], bytes]:
    connection = SpdyConnection()
    events = [event for piece in pieces for event in connection.receive(piece)]
    return merged(events), connection.take_answers()


_SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)


@given(scenario=st.sampled_from(SPDY_SCENARIOS), sizes=_SIZES)
def test_any_cut_of_the_bytes_gives_the_same_events(scenario: Scenario, sizes: list[int]) -> None:
    data = scenario.bytes_of("c2s")
    assert run_connection(cut(data, sizes)) == run_connection([data])


@given(
    scenario=st.sampled_from(SPDY_SCENARIOS[:-3]),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    tail=st.binary(max_size=200),
    sizes=_SIZES,
)
@settings(max_examples=150, deadline=2000)
def test_broken_bytes_end_in_a_violation_at_worst(
    scenario: Scenario, edits: list[tuple[int, int]], tail: bytes, sizes: list[int]
) -> None:
    data = bytearray(scenario.bytes_of("c2s") + tail)
    for position, value in edits:
        if data:
            data[position % len(data)] = value
    once = run_connection([bytes(data)])
    assert run_connection(cut(bytes(data), sizes)) == once
    assert not any(isinstance(event, Violated) for event in once[0][:-1])


def opened(deflate: HeaderEncoder, stream_id: int, flags: int = 0, **headers: str) -> bytes:
    return frames.encode_syn_stream(stream_id, deflate.encode(headers), flags)


def test_stream_ids_have_to_rise_but_may_have_gaps_and_any_parity() -> None:
    connection, deflate = SpdyConnection(), HeaderEncoder()
    connection.receive(opened(deflate, 5) + opened(deflate, 8))
    assert connection.receive(opened(deflate, 7) + opened(deflate, 9)) == [StreamOpened(9, {})]
    assert connection.take_answers() == frames.encode_rst_stream(7, frames.RST_PROTOCOL_ERROR)


def test_streams_beyond_the_limit_are_refused_and_their_headers_inflated() -> None:
    connection, deflate = SpdyConnection(), HeaderEncoder()
    for number in range(MAX_STREAMS):
        connection.receive(opened(deflate, 2 * number + 1, port=str(number)))
    refused = 2 * MAX_STREAMS + 1
    assert connection.receive(opened(deflate, refused, port="x")) == []
    assert connection.take_answers() == frames.encode_rst_stream(refused, frames.RST_REFUSED_STREAM)
    connection.reset(1)
    assert connection.receive(opened(deflate, refused + 2, port="y")) == [StreamOpened(refused + 2, {"port": "y"})]


def test_finished_streams_are_forgotten_and_their_late_data_ignored() -> None:
    connection, deflate = SpdyConnection(), HeaderEncoder()
    connection.receive(opened(deflate, 1) + opened(deflate, 3) + opened(deflate, 5, frames.FLAG_FIN))
    assert connection.end(5) == frames.encode_data(5, b"", fin=True)
    assert connection.reset(1) == frames.encode_rst_stream(1, frames.RST_CANCEL)
    assert connection.receive(frames.encode_rst_stream(3, 5)) == [StreamReset(3, 5)]
    assert connection.stream_count == 0
    for stream_id in (1, 3, 5, 99):
        late = frames.encode_data(stream_id, b"late", fin=True) + frames.encode_rst_stream(stream_id, 5)
        assert connection.receive(late) == []
        assert connection.data(stream_id, b"x") == connection.end(stream_id) == connection.reset(stream_id) == b""
    assert connection.take_answers() == b""


def test_half_closed_streams_still_speak_the_other_way() -> None:
    connection, deflate = SpdyConnection(), HeaderEncoder()
    connection.receive(opened(deflate, 1) + frames.encode_data(1, b"in", fin=True) + opened(deflate, 3))
    assert connection.data(1, b"out") == frames.encode_data(1, b"out")
    connection.end(3)
    assert connection.data(3, b"out") == b""
    assert connection.receive(frames.encode_data(3, b"in")) == [StreamData(3, b"in")]


def test_go_away_names_the_highest_stream() -> None:
    connection = SpdyConnection()
    connection.receive(opened(HeaderEncoder(), 7))
    assert connection.go_away() == frames.encode_go_away(7, 0)


def test_headers_frames_are_dropped_but_inflated() -> None:
    connection, deflate = SpdyConnection(), HeaderEncoder()
    connection.receive(opened(deflate, 1))
    late = deflate.encode({"late": "header"})
    headers = struct.pack("!HHI", 0x8003, 8, 1 << 24 | 4 + len(late)) + struct.pack("!I", 1) + late
    assert connection.receive(headers + opened(deflate, 3, port="1")) == [
        StreamEnded(1),
        StreamOpened(3, {"port": "1"}),
    ]


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_any_compression_level_is_inflated(level: int) -> None:
    deflate, inflate = HeaderEncoder(level), HeaderDecoder()
    for number in range(50):
        headers = {"streamtype": "data", "port": str(8000 + number), "requestid": str(number)}
        assert inflate.decode(deflate.encode(headers)) == headers


def test_a_block_stream_without_the_dictionary_is_inflated() -> None:
    plain = struct.pack("!I", 1) + struct.pack("!I", 4) + b"port" + struct.pack("!I", 2) + b"80"
    deflate = zlib.compressobj()
    block = deflate.compress(plain) + deflate.flush(zlib.Z_FULL_FLUSH)
    assert HeaderDecoder().decode(block) == {"port": "80"}


def test_header_names_are_folded_and_of_many_values_the_first_counts() -> None:
    pairs = [(b"StreamType", b"data\0error"), (b"port", b"1"), (b"Port", b"2"), (b":method", b"GET")]
    plain = struct.pack("!I", len(pairs))
    plain += b"".join(struct.pack("!I", len(text)) + text for text in itertools.chain.from_iterable(pairs))
    deflate = zlib.compressobj(zdict=DICTIONARY)
    block = deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert HeaderDecoder().decode(block) == {"streamtype": "data", "port": "1", ":method": "GET"}


def raw_block(plain: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    return deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    "block",
    [
        b"not deflate",
        b"",
        raw_block(bytes(1 << 20)),
        raw_block(struct.pack("!I", 101) + bytes(8 * 101)),
        raw_block(struct.pack("!II", 1, 4) + b"na"),
        raw_block(struct.pack("!II", 1, 9000) + bytes(9004)),
        raw_block(struct.pack("!I", 2) + bytes(8)),
    ],
    ids=["not deflate", "empty", "bomb", "pairs", "cut name", "long name", "missing pair"],
)
def test_senseless_blocks_are_a_violation(block: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        HeaderDecoder().decode(block)


@pytest.mark.parametrize(
    "raw",
    [
        "80030005 00000000",
        "8003000a 00000000",
        "80030001 00000004 00000000",
        "80030003 00000004 00000001",
        "80030006 00000008 0000000100000001",
        "80030007 00000004 00000000",
        "80030002 00000002 0000",
        "80030001 00ffffff",
    ],
    ids=["NOOP", "CREDENTIAL", "short SYN", "short RST", "long PING", "short GOAWAY", "short REPLY", "huge SYN"],
)
def test_senseless_frames_are_a_violation(raw: str) -> None:
    connection, deflate = SpdyConnection(), HeaderEncoder()
    events = connection.receive(opened(deflate, 1) + bytes.fromhex(raw) + opened(deflate, 3))
    assert events[0] == StreamOpened(1, {})
    assert isinstance(events[1], Violated)
    assert len(events) == 2
    assert connection.receive(opened(deflate, 5)) == []


def test_stream_zero_is_a_violation() -> None:
    [event] = SpdyConnection().receive(opened(HeaderEncoder(), 0))
    assert isinstance(event, Violated)


def test_the_largest_data_frame_is_not_gathered_in_memory() -> None:
    connection = SpdyConnection()
    connection.receive(opened(HeaderEncoder(), 1))
    head = struct.pack("!II", 1, frames.FLAG_FIN << 24 | frames.MAX_DATA_BYTES)
    assert connection.receive(head) == []
    piece = bytes(1 << 20)
    left = frames.MAX_DATA_BYTES
    while left > len(piece):
        assert connection.receive(piece) == [StreamData(1, piece)]
        left -= len(piece)
    assert connection.receive(piece[:left]) == [StreamData(1, piece[:left]), StreamEnded(1)]
