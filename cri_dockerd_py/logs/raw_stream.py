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
        text = _Text()
        end = data.rfind(b"\n") + 1
        if end:
            self._lines(text, data[: end - 1], floor_ns)
        rest = len(data) - end
        if rest > MAX_LINE_BYTES:
            pieces = _full_pieces(rest, ends_in_return=data.endswith(b"\r"))
            self._pieces(text, data, end, pieces, floor_ns)
            end += pieces * MAX_LINE_BYTES
        return text.rendered(end, floor_ns)

    def flush(self, data: bytes, floor_ns: int) -> Rendered:
        """What is left when the writer is gone is a line without an end."""
        text = _Text()
        self._pieces(text, data, 0, -(-len(data) // MAX_LINE_BYTES), floor_ns)
        return text.rendered(len(data), floor_ns)

    def _head(self, tag: bytes, time_ns: int) -> bytes:
        return b"%b %b %b " % (timestamp(time_ns), self._name, tag)

    def _lines(self, text: _Text, lines: bytes, time_ns: int) -> None:
        """Whole lines, given without the last newline; those that are too long are found without looking at others."""
        if b"\r" in lines:
            lines = (lines + b"\n").replace(b"\r\n", b"\n")[:-1]
        head = self._head(FULL, time_ns)
        start = 0
        for begin, end in _long_lines(lines):
            if begin > start:
                text.add(head, lines[start : begin - 1])
            pieces = (end - begin - 1) // MAX_LINE_BYTES
            self._pieces(text, lines, begin, pieces, time_ns)
            text.add(head, lines[begin + pieces * MAX_LINE_BYTES : end])
            start = end + 1
        if start <= len(lines):
            text.add(head, lines[start:])

    def _pieces(self, text: _Text, data: bytes, begin: int, count: int, time_ns: int) -> None:
        """Pieces of a line that is too long, or has no end."""
        head = self._head(PARTIAL, time_ns)
        for start in range(begin, begin + count * MAX_LINE_BYTES, MAX_LINE_BYTES):
            text.add(head, data[start : start + MAX_LINE_BYTES])


class _Text:
    """Log text that grows; its lines are counted by how much longer than the raw ones they are."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._lines = 0

    def add(self, head: bytes, lines: bytes) -> None:
        """Add lines, given without the last newline, each with `head` before it."""
        text = lines.replace(b"\n", b"\n" + head)
        self._lines += 1 + (len(text) - len(lines)) // len(head)
        self._parts += (head, text, b"\n")

    def rendered(self, consumed: int, time_ns: int) -> Rendered:
        """Return the whole of it, made of so many raw bytes."""
        return Rendered(b"".join(self._parts), consumed, self._lines, time_ns)


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
