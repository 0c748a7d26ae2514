"""WebSocket framing and channels: recorded frames in both directions, any cut of the bytes, hostile bytes."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cri_dockerd_py.streaming.protocol import websocket as ws
from cri_dockerd_py.streaming.protocol import websocket_channels as channels
from cri_dockerd_py.streaming.protocol.spdy_connection import SpdyConnection, StreamOpened
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation, Violated
from tests.streaming.protocol.transcripts import TUNNELS, WEBSOCKET_SCENARIOS, Scenario, cut

_MASK = b"\x01\x9a\xf3\x77"
_OPCODES = {"text": ws.TEXT, "binary": ws.BINARY, "close": ws.CLOSE, "ping": ws.PING, "pong": ws.PONG}
_SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def joined(events: list[ws.Event]) -> list[ws.Event]:
    """Join the pieces of messages."""
    whole: list[ws.Event] = []
    kept: list[bytes] = []
    for event in events:
        if isinstance(event, ws.MessagePiece):
            kept.append(event.data)
            if event.ends:
                whole.append(ws.MessagePiece(event.text, b"".join(kept), True))
                kept = []
        else:
            whole.append(event)
    return whole


def read(pieces: list[bytes], *, masked: bool = True) -> list[ws.Event]:
    reader = ws.WebSocketReader(masked=masked)
    return joined([event for piece in pieces for event in reader.receive(piece)])


def meaning(words: dict[str, object]) -> ws.Event:
    """Return the event for a frame in the words of the transcripts."""
    payload = bytes.fromhex(str(words["payload_hex"]))
    match words["ws"]:
        case "text" | "binary":
            return ws.MessagePiece(words["ws"] == "text", payload, True)
        case "ping":
            return ws.PingReceived(payload)
        case "pong":
            return ws.PongReceived(payload)
        case "close":
            return ws.CloseReceived(int(str(words["close_code"])))
    raise AssertionError(words)


def until_close(scenario: Scenario, direction: str) -> list[tuple[bytes, dict[str, object]]]:
    """Return the frames up to the close; some recorded servers say it twice."""
    taken = []
    for raw, words in scenario.frames(direction):
        taken.append((raw, words))
        if words["ws"] == "close":
            break
    return taken


@pytest.mark.parametrize("direction", ["c2s", "s2c"])
@pytest.mark.parametrize("scenario", WEBSOCKET_SCENARIOS, ids=str)
def test_recorded_frames_are_read_and_written(scenario: Scenario, direction: str) -> None:
    recorded = until_close(scenario, direction)
    data = b"".join(raw for raw, _ in recorded)
    events = [meaning(words) for _, words in recorded]
    assert read([data], masked=direction == "c2s") == events
    for raw, words in recorded:
        payload = bytes.fromhex(str(words["payload_hex"]))
        mask = raw[-len(payload) - 4 : len(raw) - len(payload)] if words["masked"] else b""
        assert ws.encode_frame(_OPCODES[str(words["ws"])], payload, mask=mask) == raw


@given(scenario=st.sampled_from(WEBSOCKET_SCENARIOS), sizes=_SIZES)
def test_any_cut_of_the_bytes_gives_the_same_events(scenario: Scenario, sizes: list[int]) -> None:
    data = scenario.bytes_of("c2s")
    assert read(cut(data, sizes)) == read([data])


@given(data=st.binary(max_size=400), sizes=_SIZES, masked=st.booleans())
@settings(max_examples=150, deadline=2000)
def test_senseless_bytes_end_in_a_violation_at_worst(data: bytes, sizes: list[int], masked: bool) -> None:
    once = read([data], masked=masked)
    assert read(cut(data, sizes), masked=masked) == once
    assert not any(isinstance(event, Violated | ws.CloseReceived) for event in once[:-1])


@given(
    messages=st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    fragment=st.integers(1, 100),
    sizes=_SIZES,
    mask=st.binary(min_size=4, max_size=4),
)
def test_fragments_with_pings_between_them_are_joined(
    messages: list[bytes], fragment: int, sizes: list[int], mask: bytes
) -> None:
    data, expected = b"", []
    for message in messages:
        parts = cut(message, [fragment]) or [b""]
        for number, part in enumerate(parts):
            opcode = ws.BINARY if number == 0 else ws.CONTINUATION
            data += ws.encode_frame(opcode, part, fin=number == len(parts) - 1, mask=mask)
            data += ws.encode_frame(ws.PING, b"alive?", mask=mask)
        expected.append(message)
    events = read(cut(data, sizes))
    assert [event.data for event in events if isinstance(event, ws.MessagePiece)] == expected
    assert all(event == ws.PingReceived(b"alive?") for event in events if not isinstance(event, ws.MessagePiece))


@given(data=st.binary(max_size=10_000), mask=st.binary(min_size=4, max_size=4), offset=st.integers(0, 9))
def test_a_mask_is_an_exclusive_or(data: bytes, mask: bytes, offset: int) -> None:
    expected = bytes(byte ^ mask[(offset + index) % 4] for index, byte in enumerate(data))
    assert ws.apply_mask(data, mask, offset) == expected


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_lengths_are_written_in_all_three_forms(size: int) -> None:
    data = os.urandom(size)
    assert read([ws.encode_frame(ws.BINARY, data)], masked=False) == [ws.MessagePiece(False, data, True)]
    assert read([ws.encode_frame(ws.BINARY, data, mask=_MASK)]) == [ws.MessagePiece(False, data, True)]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (ws.encode_frame(ws.BINARY, b"no mask"), 1002),
        (b"\xc2" + ws.encode_frame(ws.BINARY, b"x", mask=_MASK)[1:], 1002),
        (ws.encode_frame(0x3, b"x", mask=_MASK), 1002),
        (ws.encode_frame(0xB, b"x", mask=_MASK), 1002),
        (ws.encode_frame(ws.CONTINUATION, b"x", mask=_MASK), 1002),
        (ws.encode_frame(ws.TEXT, b"x", fin=False, mask=_MASK) * 2, 1002),
        (ws.encode_frame(ws.PING, bytes(126), mask=_MASK), 1002),
        (ws.encode_frame(ws.PING, b"", fin=False, mask=_MASK), 1002),
        (ws.encode_frame(ws.CLOSE, b"x", mask=_MASK), 1002),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + _MASK, 1009),
    ],
)
def test_what_the_standard_forbids_is_a_violation(raw: bytes, code: int) -> None:
    events = read([raw, ws.encode_frame(ws.PING, b"", mask=_MASK)])
    assert isinstance(events[-1], Violated)
    assert events[-1].close_code == code
    assert ws.PingReceived(b"") not in events


def test_the_fragments_of_a_message_count_together_towards_its_limit() -> None:
    reader = ws.WebSocketReader(max_message_bytes=100)
    reader.receive(ws.encode_frame(ws.BINARY, bytes(60), fin=False, mask=_MASK))
    [event] = reader.receive(ws.encode_frame(ws.CONTINUATION, bytes(60), mask=_MASK))
    assert isinstance(event, Violated)
    assert event.close_code == ws.CLOSE_TOO_BIG


def test_a_tunnel_carries_the_bytes_of_a_spdy_connection() -> None:
    for scenario in TUNNELS:
        connection = SpdyConnection()
        events = []
        for event in read([scenario.bytes_of("c2s")]):
            if isinstance(event, ws.MessagePiece):
                events += connection.receive(event.data)
        opened = [event.headers["streamtype"] for event in events if isinstance(event, StreamOpened)]
        assert opened == ["error", "data"]
        assert not any(isinstance(event, Violated) for event in events)


_V5 = channels.COMMAND_PROTOCOLS["v5.channel.k8s.io"]
_V4 = channels.COMMAND_PROTOCOLS["v4.channel.k8s.io"]
_BASE64 = channels.COMMAND_PROTOCOLS["v4.base64.channel.k8s.io"]


@pytest.mark.parametrize(
    "scenario",
    [known for known in WEBSOCKET_SCENARIOS if known not in TUNNELS and "refused-403" not in known.name],
    ids=str,
)
def test_channel_messages_are_written_as_recorded(scenario: Scenario) -> None:
    text = any(words["ws"] == "text" for _, words in scenario.frames("s2c"))
    for raw, words in scenario.frames("s2c"):
        if words["ws"] in ("text", "binary"):
            channel, data = message_of(words)
            assert channels.encode_channel(_BASE64 if text else _V5, channel, data) == raw


def message_of(words: dict[str, object]) -> tuple[int, bytes]:
    """Return the channel and data of a recorded message."""
    payload = bytes.fromhex(str(words["payload_hex"]))
    if words["ws"] == "text":
        return payload[0] - ord("0"), base64.b64decode(payload[1:])
    return payload[0], payload[1:]


def feed(protocol: channels.ChannelProtocol, *messages: bytes) -> list[channels.ChannelData | channels.ChannelEnded]:
    """Feed messages whole and byte by byte; both have to mean the same."""
    whole, crumbs = channels.ChannelReader(protocol, 5), channels.ChannelReader(protocol, 5)
    events: list[channels.ChannelData | channels.ChannelEnded] = []
    for message in messages:
        once = whole.feed(message, ends=True)
        pieces = cut(message, [1]) or [b""]
        cut_up = [e for i, p in enumerate(pieces) for e in crumbs.feed(p, ends=i == len(pieces) - 1)]
        data = b"".join(event.data for event in cut_up if isinstance(event, channels.ChannelData))
        assert data == b"".join(event.data for event in once if isinstance(event, channels.ChannelData))
        assert [e for e in cut_up if isinstance(e, channels.ChannelEnded)] == [
            e for e in once if isinstance(e, channels.ChannelEnded)
        ]
        events += once
    return events


def test_unknown_channels_and_empty_messages_are_dropped() -> None:
    assert feed(_V5, b"", b"\x00", b"\x09lost", b"\x00kept") == [channels.ChannelData(0, b"kept")]


def test_the_close_signal_is_known_to_v5_alone() -> None:
    assert feed(_V5, b"\xff\x00", b"\xff\x01") == [channels.ChannelEnded(0), channels.ChannelEnded(1)]
    assert feed(_V4, b"\xff\x00") == []


@pytest.mark.parametrize("message", [b"\xff", b"\xff\x00\x00", b"\xff\x09", b"\xff\xff"])
def test_a_close_signal_for_no_channel_is_a_violation(message: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        channels.ChannelReader(_V5, 5).feed(message, ends=True)


def test_broken_base64_is_dropped() -> None:
    assert feed(_BASE64, b"0!!!", b"0aGk", b"9aGk=", b"0aGk=", b"", b"0") == [channels.ChannelData(0, b"hi")]
