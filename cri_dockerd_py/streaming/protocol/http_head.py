"""Heads of HTTP/1.1 requests and answers, as far as an upgrade needs them."""

from __future__ import annotations

import http
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_HEAD_BYTES = 16 * 1024

_REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) HTTP/1\.([01])")
_HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's method, path and headers; names are in lower case."""

    method: str
    path: str
    headers: Sequence[tuple[str, str]] = ()

    def lines(self, name: str) -> list[str]:
        """Return the values of all lines of a header."""
        return [value for known, value in self.headers if known == name]

    def words(self, name: str) -> list[str]:
        """Return the comma-separated words of all lines of a header, in order."""
        return [word for line in self.lines(name) for part in line.split(",") if (word := part.strip())]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with headers and, unless it is 101, a text."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An upgrade to `transport` that speaks `protocol`; `answer` is its 101."""

    transport: str
    protocol: str
    answer: Answer = field(repr=False)


def split_head(received: bytes | bytearray) -> tuple[bytes, bytes] | None:
    """Return a request's head and the bytes behind it, None when the head is not complete."""
    end = received.find(b"\r\n\r\n")
    return None if end < 0 else (bytes(received[:end]), bytes(received[end + 4 :]))


def parse_head(head: bytes) -> RequestHead | Answer:
    """Return the request, or the answer to one that is not understood."""
    request_line, *header_lines = head.decode("latin-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        return Answer(400, text="the request line is not one of HTTP/1.1")
    headers = []
    for line in header_lines:
        parts = _HEADER_LINE.fullmatch(line)
        if parts is None:
            return Answer(400, text="a header line is malformed")
        headers.append((parts[1].lower(), parts[2]))
    request = RequestHead(match[1], match[2].partition("?")[0], headers)
    if "transfer-encoding" in dict(headers) or any(text != "0" for text in request.lines("content-length")):
        return Answer(400, text="a streaming request has no body")
    return request


def encode_answer(answer: Answer) -> bytes:
    """Return an answer's bytes; one that ends the connection says so and how long its text is."""
    lines = [f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    body = b""
    if answer.status != 101:
        body = answer.text.encode() + b"\n"
        lines += ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body
