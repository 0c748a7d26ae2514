"""The rules of exec and attach sessions: which streams they have, what a resize says, how the end is told."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cri_dockerd_py.streaming.protocol.violation import ProtocolViolation

STDIN, STDOUT, STDERR, ERROR, RESIZE = "stdin", "stdout", "stderr", "error", "resize"
_STREAM_TYPES = frozenset((STDIN, STDOUT, STDERR, ERROR, RESIZE))

#: What is offered over SPDY; v5 over SPDY is the same as v4, and other servers do not offer it either.
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_WITH_RESIZE = frozenset(("v4.channel.k8s.io", "v3.channel.k8s.io"))
_WITH_JSON_STATUS = frozenset(("v4.channel.k8s.io",))

_MAX_RESIZE_BYTES = 1024
#: What a resize stream may bring within a second: some thousand sizes, which take a few milliseconds to find.
_RESIZE_BYTES_A_SECOND = 64 * 1024
_MAX_CELLS = 65535


@dataclass(frozen=True, slots=True)
class Streams:
    """Which of a process's streams a session wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Admission(enum.Enum):
    """What to do with a stream that the client opens."""

    ACCEPT = enum.auto()
    ACCEPT_AND_END = enum.auto()
    REFUSE = enum.auto()
    REFUSE_AS_WRONG = enum.auto()


class StreamSetup:
    """Collects the streams of a SPDY session; the process may start once all are there."""

    def __init__(self, wanted: Streams, protocol: str) -> None:
        flags = {STDIN: wanted.stdin, STDOUT: wanted.stdout, STDERR: wanted.stderr and not wanted.tty}
        self._missing = {ERROR, *(name for name, on in flags.items() if on)}
        if wanted.tty and protocol in _WITH_RESIZE:
            self._missing.add(RESIZE)
        self._expected = frozenset(self._missing)
        self.stream_ids: dict[str, int] = {}

    @property
    def complete(self) -> bool:
        """Whether every expected stream exists."""
        return not self._missing

    @property
    def missing(self) -> str:
        """The streams that did not come, for people."""
        return ", ".join(sorted(self._missing))

    def admit(self, stream_id: int, headers: Mapping[str, str]) -> Admission:
        """Decide about a new stream and remember it when it is one of the expected."""
        kind = headers.get("streamtype", "")
        if kind in self.stream_ids:
            return Admission.REFUSE_AS_WRONG
        if self.complete or kind not in _STREAM_TYPES:
            return Admission.REFUSE
        if kind not in self._expected:
            return Admission.ACCEPT_AND_END
        self.stream_ids[kind] = stream_id
        self._missing.discard(kind)
        return Admission.ACCEPT


def has_json_status(protocol: str) -> bool:
    """Whether this SPDY protocol's error stream carries JSON; the older ones have text, and only on failure."""
    return protocol in _WITH_JSON_STATUS


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's size in cells."""

    width: int
    height: int


class ResizeReader:
    """Finds the sizes in the bytes of a resize stream; what is not a size is skipped."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._depth = 0
        self._quoted = False
        self._escaped = False
        self._second_began = float("-inf")
        self._bytes_in_second = 0

    def feed(self, received: bytes, now: float) -> list[Size]:
        """Return the sizes that `received` completes, in order; raises ProtocolViolation when it is too much.

        Nothing slows a client's resize stream down, and `now`, in seconds, limits what it may cost.
        """
        if now - self._second_began >= 1.0:
            self._second_began, self._bytes_in_second = now, 0
        self._bytes_in_second += len(received)
        if self._bytes_in_second > _RESIZE_BYTES_A_SECOND:
            raise ProtocolViolation(f"more than {_RESIZE_BYTES_A_SECOND} bytes of terminal sizes within a second")
        sizes = []
        for byte in received:
            message = self._take(byte)
            size = _parse_size(message) if message else None
            if size is not None:
                sizes.append(size)
        return sizes

    def _take(self, byte: int) -> bytes:
        """Follow quotes and braces; returns an object's text at its closing brace."""
        if self._depth == 0 and byte != ord("{"):
            return b""
        if len(self._text) < _MAX_RESIZE_BYTES:
            self._text.append(byte)
        if self._quoted:
            self._quoted = self._escaped or byte != ord('"')
            self._escaped = not self._escaped and byte == ord("\\")
        elif byte == ord('"'):
            self._quoted = True
        elif byte == ord("{"):
            self._depth += 1
        elif byte == ord("}"):
            self._depth -= 1
        if self._depth:
            return b""
        message, self._text = bytes(self._text), bytearray()
        return message


def _parse_size(message: bytes) -> Size | None:
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        return None
    named = {name.lower(): value for name, value in fields.items()}
    width, height = named.get("width", 0), named.get("height", 0)
    for cells in (width, height):
        if type(cells) is not int or not 0 < cells <= _MAX_CELLS:
            return None
    return Size(width, height)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The command ended with 0, or the attachment ended."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The command ended with a code other than 0."""

    code: int
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The command could not be run, or its streams were lost."""

    text: str


Outcome = Succeeded | Exited | Failed


def outcome_of(exit_code: int, command: tuple[str, ...]) -> Outcome:
    """Say how a command ended, with a code that clients understand: 0 to 255, 128+n for signal n."""
    if exit_code < 0:
        exit_code = 128 - exit_code
    return Exited(min(exit_code, 255), command) if exit_code else Succeeded()


def encode_outcome(outcome: Outcome, *, as_json: bool) -> bytes:
    """Return what goes on the error stream; in the text form success is silent."""
    if isinstance(outcome, Succeeded):
        return b'{"status":"Success"}' if as_json else b""
    if isinstance(outcome, Exited):
        command = " ".join(outcome.command)
        message = (
            f"command terminated with non-zero exit code: error executing command [{command}], exit code {outcome.code}"
        )
        causes = [{"reason": "ExitCode", "message": str(outcome.code)}]
        rest: dict[str, object] = {"reason": "NonZeroExitCode", "details": {"causes": causes}}
    else:
        message = f"Internal error occurred: {outcome.text}"
        rest = {"reason": "InternalError", "code": 500}
    if not as_json:
        return message.encode()
    status = {"status": "Failure", "message": message, **rest}
    return json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
