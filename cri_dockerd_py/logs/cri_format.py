"""The CRI log line, `<time> <stream> <tag> <content>\\n`: how it is written and how it is read back."""

from __future__ import annotations

import re
import time
from calendar import timegm
from dataclasses import dataclass
from typing import Protocol

FULL = b"F"
PARTIAL = b"P"
NANOSECONDS = 1_000_000_000
CLOCK_SET_BACK_NS = 10 * NANOSECONDS
_TIME = rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))"
_STAMP = re.compile(_TIME)
_LINE = re.compile(_TIME + rb" (stdout|stderr) ([^ \n]+)(?: |$)")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A piece of raw stream as log text: `consumed` raw bytes became `text`; nothing in it precedes `last_ns`."""

    text: bytes
    consumed: int
    lines: int
    last_ns: int
    skipped_bytes: int = 0


class Decoder(Protocol):
    """Turns the raw bytes of a FIFO into log text; pure, so that a repeated run after a crash gives the same text."""

    @property
    def timed(self) -> bool:
        """Whether the bytes say when each line was printed; otherwise every line gets the time `floor_ns`."""
        ...

    def render(self, data: bytes, floor_ns: int) -> Rendered:
        """Render what is whole at the front of `data`; no timestamp goes below `floor_ns`.

        What it leaves is short, and gives nothing when it is rendered again.
        """
        ...

    def flush(self, data: bytes, floor_ns: int) -> Rendered:
        """Render what is left when the writer is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a log file, parsed."""

    time_ns: int
    stream: str
    partial: bool
    content: bytes


class _Seconds:
    """Remembers the text of the last second, since neighbouring lines share it."""

    second = -1
    text = b""

    def format(self, second: int) -> bytes:
        if second != self.second:
            self.text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
            self.second = second
        return self.text


_seconds = _Seconds()


def timestamp(time_ns: int) -> bytes:
    """RFC 3339 in UTC with nine digits of fraction (called by the pump thread alone)."""
    second, fraction = divmod(time_ns, NANOSECONDS)
    return b"%b.%09dZ" % (_seconds.format(second), fraction)


def not_before(time_ns: int, floor_ns: int) -> int:
    """The time to print: never behind the line before, unless the clock was plainly set back."""
    return time_ns if time_ns >= floor_ns or time_ns < floor_ns - CLOCK_SET_BACK_NS else floor_ns


def parse_line(line: bytes) -> Entry | None:
    """One line without its newline; None when it is not in CRI format."""
    match = _LINE.match(line)
    if match is None:
        return None
    try:
        time_ns = _time_ns(match)
    except ValueError:
        return None
    return Entry(time_ns, match[11].decode(), match[12].split(b":", 1)[0] == PARTIAL, line[match.end() :])


def parse_time_ns(text: bytes) -> int | None:
    """Nanoseconds since the epoch of an RFC 3339 time; None when it is not one."""
    match = _STAMP.fullmatch(text)
    try:
        return None if match is None else _time_ns(match)
    except ValueError:
        return None


def _time_ns(match: re.Match[bytes]) -> int:
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    offset = (int(match[9]) * 60 + int(match[10])) * 60 if match[8] else 0
    seconds = timegm((year, month, day, hour, minute, second)) - (-offset if match[8] == b"-" else offset)
    return seconds * NANOSECONDS + int((match[7] or b"").ljust(9, b"0"))
