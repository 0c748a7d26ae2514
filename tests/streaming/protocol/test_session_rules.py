"""The rules of exec, attach and port-forward sessions, and the choice of a protocol."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.streaming.protocol import port_forward, remote_command
from cri_dockerd_py.streaming.protocol.handshake import SPDY, WEBSOCKET, negotiate
from cri_dockerd_py.streaming.protocol.http_head import (
    Accepted,
    Answer,
    RequestHead,
    encode_answer,
    parse_head,
    split_head,
)
from cri_dockerd_py.streaming.protocol.remote_command import (
    Admission,
    Exited,
    Failed,
    ResizeReader,
    Size,
    Streams,
    StreamSetup,
    Succeeded,
    encode_outcome,
    outcome_of,
)
from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation
from cri_dockerd_py.streaming.protocol.websocket_channels import COMMAND_PROTOCOLS, PORT_PROTOCOLS, TUNNEL_PROTOCOL
from tests.streaming.protocol.transcripts import SCENARIOS, Scenario, cut, scenario

_V4, _V1 = "v4.channel.k8s.io", "channel.k8s.io"
_ALL = Streams(stdin=True, stdout=True, stderr=True, tty=False)
_TTY = Streams(stdin=True, stdout=True, stderr=False, tty=True)


def kinds(setup: StreamSetup, *names: str) -> list[Admission]:
    return [setup.admit(2 * i + 1, {"streamtype": name}) for i, name in enumerate(names)]


def test_streams_are_complete_in_any_order() -> None:
    setup = StreamSetup(_ALL, _V4)
    assert kinds(setup, "stderr", "stdout", "stdin") == [Admission.ACCEPT] * 3
    assert not setup.complete
    assert setup.missing == "error"
    assert setup.admit(7, {"streamtype": "error"}) is Admission.ACCEPT
    assert setup.complete
    assert setup.stream_ids == {"stderr": 1, "stdout": 3, "stdin": 5, "error": 7}


@pytest.mark.parametrize(("protocol", "resizes"), [(_V4, True), ("v3.channel.k8s.io", True), (_V1, False)])
def test_a_terminal_has_a_resize_stream_from_v3_on(protocol: str, resizes: bool) -> None:
    setup = StreamSetup(_TTY, protocol)
    kinds(setup, "error", "stdin", "stdout")
    assert setup.complete is not resizes


def test_streams_that_are_not_expected_are_not_counted() -> None:
    setup = StreamSetup(Streams(stdin=False, stdout=True, stderr=False, tty=False), _V4)
    assert kinds(setup, "stdin", "error", "error", "bogus", "resize") == [
        Admission.ACCEPT_AND_END,
        Admission.ACCEPT,
        Admission.REFUSE_AS_WRONG,
        Admission.REFUSE,
        Admission.ACCEPT_AND_END,
    ]
    assert not setup.complete
    assert setup.admit(11, {"streamtype": "stdout"}) is Admission.ACCEPT
    assert setup.admit(13, {"streamtype": "stdin"}) is Admission.REFUSE


def recorded_status(name: str) -> bytes:
    """Return what the recorded server put on the error stream or channel."""
    record = scenario(name)
    for _, words in record.frames("s2c"):
        if words.get("channel") == 3 or (words.get("frame") == "DATA" and words["stream"] == 1):
            return bytes(words["data"], "latin-1")
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "outcome", "as_json"),
    [
        ("spdy-exec-v4-stdout-exit0", Succeeded(), True),
        ("spdy-exec-v4-exit3", Exited(3, ("exit", "3")), True),
        ("spdy-exec-v4-runtime-error", Failed("error executing command in container: container not running"), True),
        ("spdy-exec-v3-exit3", Exited(3, ("exit", "3")), False),
        ("ws-exec-v5-exit3", Exited(3, ("exit", "3")), True),
        ("ws-exec-channel-exit3", Exited(3, ("exit", "3")), False),
    ],
)
def test_the_outcome_is_told_as_recorded(name: str, outcome: remote_command.Outcome, as_json: bool) -> None:
    told = encode_outcome(outcome, as_json=as_json)
    recorded = recorded_status(name)
    assert (json.loads(told) == json.loads(recorded)) if as_json else (told == recorded)


def test_success_is_silent_in_the_text_form() -> None:
    assert encode_outcome(Succeeded(), as_json=False) == b""


@pytest.mark.parametrize(("code", "told"), [(0, None), (1, 1), (137, 137), (255, 255), (300, 255), (-9, 137)])
def test_exit_codes_are_such_as_clients_understand(code: int, told: int | None) -> None:
    outcome = outcome_of(code, ())
    assert outcome == (Succeeded() if told is None else Exited(told))


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_sizes_are_found_however_the_bytes_are_cut(sizes: list[int]) -> None:
    text = b'{"Width":80,"Height":24}\n{"width":132, "HEIGHT":43, "x":{"y":"}\\"{"}}{"Width":1,"Height":2}'
    reader = ResizeReader()
    found = [size for piece in cut(text, sizes) for size in reader.feed(piece, 0.0)]
    assert found == [Size(80, 24), Size(132, 43), Size(1, 2)]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"Width":0,"Height":0}',
        b'{"Width":70000,"Height":1}',
        b'{"Width":-1,"Height":1}',
        b'{"Width":"80","Height":24}',
        b'{"Width":true,"Height":24}',
        b'{"Width":80}',
        b"{}",
        b"{nonsense}",
        b"]]}}, nonsense",
        b'{"x":"' + b"y" * 5000 + b'"}',
    ],
)
def test_what_is_not_a_size_is_skipped(bad: bytes) -> None:
    assert ResizeReader().feed(bad + b'{"Width":80,"Height":24}', 0.0) == [Size(80, 24)]


@given(st.binary(max_size=300))
def test_any_bytes_may_be_fed_as_sizes(data: bytes) -> None:
    for size in ResizeReader().feed(data, 0.0):
        assert 0 < size.width <= 65535


def test_a_second_brings_no_more_sizes_than_a_terminal_can_have() -> None:
    size = b'{"Width":80,"Height":24}'
    reader = ResizeReader()
    for second in range(3):
        assert reader.feed(size + b" " * 65_000, 10.0 + second) == [Size(80, 24)]
        assert reader.feed(size, 10.9 + second) == [Size(80, 24)]
    with pytest.raises(ProtocolViolation, match="65536 bytes of terminal sizes"):
        reader.feed(b" " * 600, 12.95)


def stream(kind: str, port: str = "80", request_id: str | None = None) -> dict[str, str]:
    headers = {"streamtype": kind, "port": port}
    return headers | ({"requestid": request_id} if request_id is not None else {})


def test_streams_are_paired_by_request_in_any_order() -> None:
    table = port_forward.PairTable()
    assert table.add(1, stream("error", request_id="0")) == port_forward.Waiting("0")
    assert table.add(3, stream("data", request_id="1")) == port_forward.Waiting("1")
    assert table.add(5, stream("error", request_id="1")) == port_forward.Pair("1", 80, 5, 3)
    assert table.add(7, stream("data", request_id="0")) == port_forward.Pair("0", 80, 1, 7)
    assert table.add(9, stream("error", request_id="0")) == port_forward.Waiting("0")


def test_old_clients_have_no_request_ids() -> None:
    table = port_forward.PairTable()
    table.add(1, stream("error"))
    assert table.add(3, stream("data")) == port_forward.Pair("1", 80, 1, 3)


def test_an_intruder_is_refused_and_the_pair_goes_on() -> None:
    table = port_forward.PairTable()
    table.add(1, stream("error", request_id="0"))
    assert isinstance(table.add(3, stream("error", request_id="0")), port_forward.Refused)
    assert table.add(5, stream("data", request_id="0")) == port_forward.Pair("0", 80, 1, 5)


def test_a_pair_that_stays_incomplete_is_dropped() -> None:
    table = port_forward.PairTable()
    table.add(1, stream("error", request_id="0"))
    assert table.drop(1) == "0"
    assert table.drop(1) is None
    assert table.add(3, stream("data", request_id="0")) == port_forward.Waiting("0")
    assert table.drop(1) is None
    assert table.drop(3) == "0"


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "http", "80 ", "²", "99999999999"])
def test_senseless_ports_are_refused(port: str) -> None:
    assert isinstance(port_forward.PairTable().add(1, stream("error", port)), port_forward.Refused)


@pytest.mark.parametrize("headers", [{}, {"port": "80"}, {"port": "80", "streamtype": "stdin"}])
def test_senseless_streams_are_refused(headers: dict[str, str]) -> None:
    assert isinstance(port_forward.PairTable().add(1, headers), port_forward.Refused)


def ask(record: Scenario) -> Accepted | Answer:
    parts = split_head(
        record.raw["request_head"].replace("\r\n", "\n").rstrip("\n").replace("\n", "\r\n").encode() + b"\r\n\r\n"
    )
    assert parts is not None
    request = parse_head(parts[0])
    assert isinstance(request, RequestHead)
    if record.raw["cri_request"]["rpc"] == "PortForward":
        return negotiate(request, (port_forward.SPDY_PROTOCOL,), (TUNNEL_PROTOCOL, *PORT_PROTOCOLS))
    return negotiate(request, remote_command.SPDY_PROTOCOLS, COMMAND_PROTOCOLS)


@pytest.mark.parametrize("record", SCENARIOS, ids=str)
def test_recorded_handshakes_get_the_recorded_answer(record: Scenario) -> None:
    outcome = ask(record)
    expected = record.raw["response_head"].replace("\r\n", "\n").split("\n")
    if record.name == "ws-exec-v5-refused-403":
        assert isinstance(outcome, Accepted)
        assert outcome.protocol == "v5.channel.k8s.io"
        return
    answer = outcome.answer if isinstance(outcome, Accepted) else outcome
    written = encode_answer(answer).decode().partition("\r\n\r\n")[0].split("\r\n")
    assert written[0] == expected[0]
    for line in expected[1:]:
        name = line.partition(":")[0]
        if name not in ("", "Date", "X-Content-Type-Options", "Content-Length") and not line.endswith(": "):
            assert line in written


_SPDY_HEAD = [("connection", "keep-alive, Upgrade"), ("upgrade", "foo, spdy/3.1")]
_WEBSOCKET_HEAD = [("connection", "upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-version", "13")]
_KEY = ("sec-websocket-key", "nWQ7ADa3i6fiHL67VPidCw==")


def offer(*headers: tuple[str, str], method: str = "GET") -> Accepted | Answer:
    request = RequestHead(method, "/", headers)
    return negotiate(request, remote_command.SPDY_PROTOCOLS, COMMAND_PROTOCOLS)


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        (["v5.channel.k8s.io", "v4.channel.k8s.io"], "v4.channel.k8s.io"),
        (["v3.channel.k8s.io"], "v3.channel.k8s.io"),
        (["x, channel.k8s.io ,v4.channel.k8s.io"], "channel.k8s.io"),
        (["v2.channel.k8s.io", "v2.channel.k8s.io"], "v2.channel.k8s.io"),
    ],
)
def test_the_clients_first_known_spdy_protocol_is_chosen(offers: list[str], chosen: str) -> None:
    outcome = offer(*_SPDY_HEAD, *(("x-stream-protocol-version", line) for line in offers), method="POST")
    assert isinstance(outcome, Accepted)
    assert (outcome.transport, outcome.protocol) == (SPDY, chosen)


@pytest.mark.parametrize(
    ("lines", "chosen"),
    [
        ([], ""),
        (["x", "v4.channel.k8s.io"], "v4.channel.k8s.io"),
        (["x, base64.channel.k8s.io, v5.channel.k8s.io"], "base64.channel.k8s.io"),
    ],
)
def test_the_clients_first_known_websocket_protocol_is_chosen(lines: list[str], chosen: str) -> None:
    outcome = offer(*_WEBSOCKET_HEAD, _KEY, *(("sec-websocket-protocol", line) for line in lines))
    assert isinstance(outcome, Accepted)
    assert (outcome.transport, outcome.protocol) == (WEBSOCKET, chosen)
    assert ("Sec-WebSocket-Protocol" in dict(outcome.answer.headers)) is bool(lines)


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ([], "PUT", 405),
        ([("x-stream-protocol-version", _V4)], "POST", 400),
        (_SPDY_HEAD, "POST", 400),
        ([*_SPDY_HEAD, ("x-stream-protocol-version", "")], "POST", 400),
        ([*_SPDY_HEAD, ("x-stream-protocol-version", "v9")], "POST", 403),
        ([*_WEBSOCKET_HEAD, _KEY], "POST", 405),
        (_WEBSOCKET_HEAD, "GET", 400),
        ([*_WEBSOCKET_HEAD[:2], _KEY], "GET", 400),
        ([*_WEBSOCKET_HEAD, _KEY, ("sec-websocket-protocol", "v9")], "GET", 403),
    ],
)
def test_what_cannot_be_upgraded_is_told_why(headers: list[tuple[str, str]], method: str, status: int) -> None:
    outcome = offer(*headers, method=method)
    assert isinstance(outcome, Answer)
    assert outcome.status == status
    assert outcome.text
    assert b"Content-Length: " in encode_answer(outcome)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /",
        b"GET / HTTP/2.0",
        b"get / HTTP/1.1",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\nBad Name: x",
        b"POST / HTTP/1.1\r\nContent-Length: 5",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked",
    ],
)
def test_broken_heads_are_answered_with_400(head: bytes) -> None:
    answer = parse_head(head)
    assert isinstance(answer, Answer)
    assert answer.status == 400


@given(st.binary(max_size=300))
def test_any_bytes_may_be_fed_as_a_head(data: bytes) -> None:
    assert isinstance(parse_head(data), Answer | RequestHead)
