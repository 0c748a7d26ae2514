"""When what was broken, and which failures of calls that excuses."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import grpc

#: How long after its end a fault still excuses failures: clients wait between two attempts to connect.
_AFTERMATH_S = 4.0
ALL_KILLED = "service and engines kill"
DOCKER_ENDED = ("docker kill", "docker restart", ALL_KILLED)
CONTAINERD_AWAY = ("containerd kill", "containerd restart", "containerd hang", ALL_KILLED)
CONTAINERD_KILLED = ("containerd kill", ALL_KILLED)
DISK_FULL = "log disk full"
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


@dataclass(slots=True)
class Window:
    """A fault's time, as `time.monotonic()`; `engine` is the one that is away, empty when none is."""

    kind: str
    engine: str
    began_s: float
    ended_s: float = math.inf

    @property
    def is_of_service(self) -> bool:
        """Whether the service itself was away."""
        return self.kind.startswith("service")

    def overlaps(self, began_s: float, ended_s: float) -> bool:
        """Whether anything between these moments may have suffered from it."""
        return self.began_s <= ended_s and began_s <= self.ended_s + _AFTERMATH_S

    def touches(self, engine: str) -> bool:
        """Whether what is on an engine, or on any when it is empty, loses its engine or the service by it."""
        return self.is_of_service or (bool(self.engine) and engine in ("", self.engine))

    def excuses(self, code: grpc.StatusCode, details: str, engine: str) -> bool:
        """Whether a call about an object on an engine may end so."""
        if self.kind.startswith("CNI"):
            return "on purpose" in details or "breakable" in details
        if self.kind == DISK_FULL:
            return code is grpc.StatusCode.RESOURCE_EXHAUSTED or "No space left" in details
        return self.touches(engine) and code in _TRANSIENT


@dataclass(slots=True)
class Windows:
    """All faults of a run, in their order; one thread adds, any may read."""

    all: list[Window] = field(default_factory=list)

    def during(self, began_s: float, ended_s: float | None = None) -> list[Window]:
        """Return the faults that may have disturbed what was going on between these moments."""
        until = time.monotonic() if ended_s is None else ended_s
        return [window for window in list(self.all) if window.overlaps(began_s, until)]

    def excuse(self, error: grpc.RpcError, began_s: float, engine: str) -> str:
        """Return the kind of fault that excuses a call's failure, empty when none does."""
        code, details = error.code(), error.details() or ""
        found = (window.kind for window in self.during(began_s) if window.excuses(code, details, engine))
        return next(found, "")
