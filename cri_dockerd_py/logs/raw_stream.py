"""One stream's raw bytes as CRI text, a chunk at a time and not a line at a time."""

from __future__ import annotations

from collections.abc import Iterator

from cri_dockerd_py.logs.cri_format import FULL, PARTIAL, Rendered, timestamp

MAX_LINE_BYTES = 16 << 10
_STEP_BYTES = MAX_LINE_BYTES // 2  # a line that is too long spans one whole step at least


class RawStream:
    """The decoder for a FIFO that a container's stdout or stderr is copied into as it is."""

    timed = False

    def __init__(self, stream: str) -> None:
        self._name = stream.encode()

    def render(self, data: bytes, floor_ns: int) -> Rendered:
        """See `Decoder.render`: whole lines, and what a line without an end has too much."""
        end = data.rfind(b"\n") + 1
        text = list(self._lines(data[: end - 1], floor_ns)) if end else []
        rest = len(data) - end
        if rest > MAX_LINE_BYTES:
            pieces = _full_pieces(rest, ends_in_return=data.endswith(b"\r"))
            text += self._pieces(data, end, pieces, floor_ns)
            end += pieces * MAX_LINE_BYTES
        return self._rendered(text, end, floor_ns)

    def flush(self, data: bytes, floor_ns: int) -> Rendered:
        """What is left when the writer is gone is a line without an end."""
        pieces = -(-len(data) // MAX_LINE_BYTES)
        return self._rendered(list(self._pieces(data, 0, pieces, floor_ns)), len(data), floor_ns)

    def _rendered(self, text: list[bytes], consumed: int, time_ns: int) -> Rendered:
        whole = b"".join(text)
        return Rendered(whole, consumed, whole.count(b"\n"), time_ns)

    def _head(self, tag: bytes, time_ns: int) -> bytes:
        return b"%b %b %b " % (timestamp(time_ns), self._name, tag)

    def _lines(self, lines: bytes, time_ns: int) -> Iterator[bytes]:
        """Whole lines, given without the last newline; those that are too long are found without looking at others."""
        if b"\r" in lines:
            lines = (lines + b"\n").replace(b"\r\n", b"\n")[:-1]
        head = self._head(FULL, time_ns)
        between = b"\n" + head
        start = 0
        for begin, end in _long_lines(lines):
            if begin > start:
                yield from (head, lines[start : begin - 1].replace(b"\n", between), b"\n")
            pieces = (end - begin - 1) // MAX_LINE_BYTES
            yield from self._pieces(lines, begin, pieces, time_ns)
            yield from (head, lines[begin + pieces * MAX_LINE_BYTES : end], b"\n")
            start = end + 1
        if start <= len(lines):
            yield from (head, lines[start:].replace(b"\n", between), b"\n")

    def _pieces(self, data: bytes, begin: int, count: int, time_ns: int) -> Iterator[bytes]:
        head = self._head(PARTIAL, time_ns)
        for start in range(begin, begin + count * MAX_LINE_BYTES, MAX_LINE_BYTES):
            yield b"%b%b\n" % (head, data[start : start + MAX_LINE_BYTES])


def _full_pieces(length: int, *, ends_in_return: bool) -> int:
    """How many pieces an unfinished line has for certain: its last one, which may be all of it, is not known yet."""
    return (length - ends_in_return - 1) // MAX_LINE_BYTES


def _long_lines(lines: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end (where its newline is or would be) of each line longer than `MAX_LINE_BYTES`."""
    position = 0
    while position + _STEP_BYTES <= len(lines):
        if lines.find(b"\n", position, position + _STEP_BYTES) >= 0:
            position += _STEP_BYTES
            continue
        begin, end = lines.rfind(b"\n", 0, position) + 1, lines.find(b"\n", position + _STEP_BYTES)
        end = len(lines) if end < 0 else end
        if end - begin > MAX_LINE_BYTES:
            yield begin, end
        position = end + 1
