"""The rules of port-forward sessions over SPDY: two streams make one forwarded connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SPDY_PROTOCOL = "portforward.k8s.io"

_ERROR, _DATA = "error", "data"
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Refused:
    """A stream that makes no sense; the connection goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first stream of the pair `request_id`; the other one has to come in time."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Both streams of one forwarded connection."""

    request_id: str
    port: int
    error_id: int
    data_id: int


class PairTable:
    """Pairs up streams as they come, in any order; a complete pair is forgotten, so its id may come again."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, tuple[int, int]]] = {}

    def add(self, stream_id: int, headers: Mapping[str, str]) -> Refused | Waiting | Pair:
        """Decide about a new stream."""
        kind = headers.get("streamtype", "")
        if kind not in (_ERROR, _DATA):
            return Refused(f"streamtype is {kind!r}, neither error nor data")
        port = parse_port(headers.get("port", ""))
        if port is None:
            return Refused(f"port is {headers.get('port', '')!r}, not a number from 1 to {_MAX_PORT}")
        # Clients from before request ids open the data stream right after its error stream.
        request_id = headers.get("requestid") or str(stream_id if kind == _ERROR else stream_id - 2)
        streams = self._waiting.setdefault(request_id, {})
        if kind in streams:
            return Refused(f"request {request_id} has its {kind} stream already")
        streams[kind] = (stream_id, port)
        if len(streams) < 2:
            return Waiting(request_id)
        del self._waiting[request_id]
        return Pair(request_id, streams[_DATA][1], streams[_ERROR][0], streams[_DATA][0])

    def drop(self, stream_id: int) -> str | None:
        """Give up waiting for the other stream of `stream_id`; returns their request's id, None if none is missing."""
        for request_id, streams in self._waiting.items():
            if any(known == stream_id for known, _ in streams.values()):
                del self._waiting[request_id]
                return request_id
        return None


def parse_port(text: str) -> int | None:
    """Return a port number, None for anything else."""
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        return None
    port = int(text)
    return port if 0 < port <= _MAX_PORT else None


def failure_text(port: int, pod_sandbox_id: str, cause: str) -> str:
    """Return what goes on a pair's error stream; a client shows it and ends its whole session."""
    return f"error forwarding port {port} to pod {pod_sandbox_id}, uid : {cause}"
