"""Docker's log-driver stream as CRI text, a chunk at a time.

Most chunks are long runs of complete lines. Those are cut by one pass of a regular expression and then proved by
comparing every length prefix with the length of what was cut out, all of it in C. Where the proof fails (a line
that looks like a header, a piece of a split line) the frames are read one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import chain, compress, count, repeat
from operator import ne, or_
from struct import Struct

from cri_dockerd_py.logs.cri_format import FULL, PARTIAL, Rendered, not_before, timestamp
from cri_dockerd_py.logs.docker_entry import MAX_FRAME_BYTES, PREFIX_BYTES, decode_entry, decode_varint, encode_varint

_FAST_MIN_BYTES = 8 << 10
_FAST_MIN_LINES = 64
_FAST_MAX_LINE_BYTES = 2047
_SHARED_TIME_NS = 2_000_000  # lines of a run this close together carry the time of the first
_HEAD_BYTES = 22  # length, source and time: what precedes the line's own field
_TIME = slice(9, 18)  # where the time is, counted from behind the length
_LINE_TAG = 0x1A
_STREAM_OF = {b"\n\x06stdout\x10": b"stdout", b"\n\x06stderr\x10": b"stderr"}
_FRAME_HEAD = rb"\n\x06(std(?:out|err))\x10([\x80-\xff]{8}[\x01-\x7f])"
_TORN = re.compile(rb"...." + _FRAME_HEAD + rb"\x1a[\x80-\xff]{0,2}[\x00-\x7f]", re.DOTALL)
_RESYNC = re.compile(rb"\x00[\x00-\x0f].." + _FRAME_HEAD, re.DOTALL)


def _run_pattern(source: bytes) -> re.Pattern[bytes]:
    line_field = rb"(\x1a[\x00-\x7f]|\x1a[\x80-\xff][\x00-\x7f]|)"
    return re.compile(rb"\x00\x00(..)\n\x06" + source + rb"\x10(........[\x01-\x7f])" + line_field, re.DOTALL)


_RUN_OF = {stream: _run_pattern(stream) for stream in _STREAM_OF.values()}
_MIXED_RUN = _run_pattern(rb"(std(?:out|err))")


def _line_field(length: int) -> bytes:
    """What stands between the time and the line: an empty line has no field at all."""
    return b"\x1a" + encode_varint(length) if length else b""


_RUN_FIELDS = [_line_field(n) for n in range(_FAST_MAX_LINE_BYTES + 1)]
_RUN_SIZES = [Struct(">H").pack(_HEAD_BYTES - PREFIX_BYTES + len(f) + n) for n, f in enumerate(_RUN_FIELDS)]


def _time_of(varint: bytes) -> int:
    return decode_varint(varint)[0]


class DockerFrames:
    """The decoder for a FIFO of Docker's log-driver plugin protocol."""

    timed = True

    def render(self, data: bytes, floor_ns: int) -> Rendered:
        """See `Decoder.render`."""
        work = _Work(data, floor_ns)
        window_bytes, exact_frames = len(data), 1
        while True:
            if len(data) - work.position < _FAST_MIN_BYTES:
                exact_frames = len(data) + 1
            else:
                begin = work.position
                exact_frames = 1 if work.render_run(window_bytes) >= _FAST_MIN_LINES else exact_frames * 4
                window_bytes = max(_FAST_MIN_BYTES, 2 * (work.position - begin))
            if not work.render_frames(exact_frames):
                return work.result()

    def flush(self, data: bytes, floor_ns: int) -> Rendered:
        """A frame that its writer, killed, left torn: what arrived of its line is kept, as a partial."""
        match = _TORN.match(data)
        if match is None or match.end() == len(data):
            return Rendered(b"", len(data), 0, floor_ns, len(data))
        time_ns = not_before(_time_of(match[2]), floor_ns)
        text = b"%b %b P %b\n" % (timestamp(time_ns), match[1], data[match.end() :])
        return Rendered(text, len(data), 1, time_ns)


class _Work:
    """The state of rendering one chunk."""

    def __init__(self, data: bytes, floor_ns: int) -> None:
        self.position = 0
        self._data = data
        self._floor_ns = floor_ns
        self._text: list[bytes] = []
        self._lines = 0
        self._skipped_bytes = 0
        self._mixed = False
        self._has_return = b"\r" in data

    def result(self) -> Rendered:
        return Rendered(b"".join(self._text), self.position, self._lines, self._floor_ns, self._skipped_bytes)

    def _stamp(self, time_ns: int) -> bytes:
        self._floor_ns = not_before(time_ns, self._floor_ns)
        return timestamp(self._floor_ns)

    def render_run(self, window_bytes: int) -> int:
        """Render the run of plain lines that begins here; answer how many they were."""
        window = self._data[self.position : self.position + window_bytes]
        stream = window[6:12]
        pattern = _MIXED_RUN if self._mixed else _RUN_OF.get(stream)
        if pattern is None:
            return 0
        cut = pattern.split(window)
        if cut[0]:
            return 0
        step = pattern.groups + 1
        sizes, times, fields, lines = (cut[i::step] for i in (1, step - 2, step - 1, step))
        good = _proved(lines, sizes, fields)
        rest = zip(lines[good:], fields[good:], strict=True)
        end = len(window) - sum(_HEAD_BYTES + len(field) + len(line) for line, field in rest)
        self.position += end
        self._lines += good
        self._render_run(lines[:good], times, cut[2::step] if self._mixed else stream)
        self._mixed = self._mixed or window[end + 4 : end + 13] in _STREAM_OF.keys() - {window[4:13]}
        return good

    def _render_run(self, lines: list[bytes], times: list[bytes], streams: Sequence[bytes] | bytes) -> None:
        start, end = 0, len(lines)
        while start < end:
            time_ns = _time_of(times[start])
            stop = max(start + 1, bisect_right(times, time_ns + _SHARED_TIME_NS, start, end, key=_time_of))
            stamp = self._stamp(time_ns)
            if isinstance(streams, bytes):
                head = b"%b %b F " % (stamp, streams)
                text = [head, (b"\n" + head).join(lines[start:stop]), b"\n"]
            else:
                heads = map({s: b"%b %b F " % (stamp, s) for s in _RUN_OF}.__getitem__, streams[start:stop])
                text = list(chain.from_iterable(zip(heads, lines[start:stop], repeat(b"\n"))))
            self._text += [b"".join(text).replace(b"\r\n", b"\n")] if self._has_return else text
            start = stop

    def render_frames(self, limit: int) -> bool:
        """Render up to `limit` frames one by one; answer whether there may be more whole ones."""
        data, position, end = self._data, self.position, len(self._data)
        shared = end >= _FAST_MIN_BYTES
        seen_time = stamp = b""
        while limit > 0 and position + PREFIX_BYTES <= end:
            begin = position + PREFIX_BYTES
            size = int.from_bytes(data[position:begin], "big")
            if size > MAX_FRAME_BYTES:
                position = self._resync(position)
                continue
            if begin + size > end:
                break
            limit -= 1
            position = begin + size
            frame = _plain_frame(data[begin:position]) or _any_frame(data[begin:position])
            if frame is None:
                self._skipped_bytes += size
                continue
            time, stream, tag, line = frame
            if not shared or time[3:] != seen_time:  # the upper bytes: the same two milliseconds
                seen_time, stamp = time[3:], self._stamp(_time_of(time))
            self._lines += 1
            self._text.append(b"%b %b %b %b\n" % (stamp, stream, tag, line))
        self.position = position
        return limit <= 0

    def _resync(self, position: int) -> int:
        """A length that cannot be: skip to the next thing that looks like a frame."""
        match = _RESYNC.search(self._data, position + 1)
        found = match.start() if match else max(position + 1, len(self._data) - _HEAD_BYTES)
        self._skipped_bytes += found - position
        return found


def _proved(lines: list[bytes], sizes: list[bytes], fields: list[bytes]) -> int:
    """How many of the lines at the front have the length that their frame says."""
    lengths = list(map(len, lines[:-1]))  # the last may go on in the next chunk
    try:
        true_sizes = list(map(_RUN_SIZES.__getitem__, lengths))
    except IndexError:
        del lengths[next(compress(count(), map(_FAST_MAX_LINE_BYTES.__lt__, lengths))) :]
        true_sizes = list(map(_RUN_SIZES.__getitem__, lengths))
    true_fields = list(map(_RUN_FIELDS.__getitem__, lengths))
    good = len(lengths)
    if true_sizes == sizes[:good] and true_fields == fields[:good]:
        return good
    return next(compress(count(), map(or_, map(ne, true_sizes, sizes), map(ne, true_fields, fields))))


_Frame = tuple[bytes, bytes, bytes, bytes]  # time as a varint, stream, tag, line


def _plain_frame(body: bytes) -> _Frame | None:
    """The entry when it is of the usual form: source, time, a whole line of less than 16 KiB."""
    stream = _STREAM_OF.get(body[:9])
    if stream is None or len(body) < 21 or body[18] != _LINE_TAG or body[17] > 0x7F:
        return None
    size, start = body[19], 20
    if size > 0x7F:
        size, start = size & 0x7F | body[20] << 7, 21
    if start + size != len(body):
        return None
    return body[_TIME], stream, FULL, body[start:-1] if body[-1] == 0x0D else body[start:]


def _any_frame(body: bytes) -> _Frame | None:
    entry = decode_entry(body)
    if entry is None:
        return None
    line = entry.line[:-1] if entry.line.endswith(b"\r") and not entry.partial else entry.line
    return encode_varint(entry.time_ns), entry.stream, PARTIAL if entry.partial else FULL, line
