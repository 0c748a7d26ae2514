"""What to do about a registry's answer, and what a pull says when every host has failed."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from cri_dockerd_py.errors import CriError, NotFound, Unknown

ATTEMPTS = 5
#: What kubelet looks for at the beginning of a text (IMG-41).
UNAVAILABLE = "RegistryUnavailable"
_PATIENT_S = 10.0
_FIRST_WAIT_S = 0.2
_BUSY = frozenset({408, 429})
_BROKEN = frozenset({500, 502, 503, 504})
_NOT_THERE = frozenset({0, 502, 503, 504})
_DENIED = frozenset({401, 403})
_SHOWN = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Step(Enum):
    """What comes after an answer."""

    USE = auto()
    LOG_IN = auto()
    ASK_WITH_GET = auto()
    AGAIN = auto()
    NEXT_HOST = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A step, and the seconds to wait before it."""

    step: Step
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one host gave nothing: its HTTP status, 0 when it did not answer, and a text for people."""

    host: str
    status: int
    text: str


def judge(
    status: int, method: str, attempt: int, *, last_host: bool, seen: Collection[int], retry_after: str = ""
) -> Verdict:
    """Return what follows on answer number `attempt` (from 1) of one host; `seen` are its earlier statuses."""
    if 200 <= status < 300:
        return Verdict(Step.USE)
    if status == 401:
        return Verdict(Step.LOG_IN)
    if method == "HEAD" and status in (403, 405):  # no HEAD here, or a reason that only a body can tell
        return Verdict(Step.ASK_WITH_GET)
    if status in _BUSY and attempt < ATTEMPTS:
        wait_s = _seconds(retry_after) or backoff_s(attempt)
        if wait_s <= _PATIENT_S:
            return Verdict(Step.AGAIN, wait_s)
    if status in _BROKEN and last_host and status not in seen and attempt < ATTEMPTS:
        return Verdict(Step.AGAIN, backoff_s(attempt))
    return Verdict(Step.NEXT_HOST)


def backoff_s(attempt: int) -> float:
    """Return how long to wait after failure number `attempt`."""
    return min(_FIRST_WAIT_S * 2.0 ** (attempt - 1), _PATIENT_S)


def text_of(status: int, body: bytes) -> str:
    """Return what an answer that is no success says, in one short line."""
    text = body.decode("utf-8", "replace")
    try:
        errors = json.loads(text)["errors"]
        parts = [": ".join(str(error[key]) for key in ("code", "message") if error.get(key)) for error in errors]
        text = "; ".join(part.lower() if part.isupper() else part for part in parts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        text = "" if text.lstrip().startswith("<") else text
    text = _CONTROL.sub(" ", text).strip()[:_SHOWN]
    return f"{status_text(status)}: {text}" if text else status_text(status)


def status_text(status: int) -> str:
    """Return a status with its words, such as `503 Service Unavailable`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def error_for(what: str, failures: Sequence[Failure]) -> CriError:
    """Return the error of a fetch of `what` that no host could serve: that a host lacks it counts least."""
    if not failures:
        return Unknown(f"{what} cannot be fetched: no host in the registry's configuration may be asked for it")
    worst = next((failure for failure in reversed(failures) if failure.status != 404), failures[-1])
    said = f"{what}: {worst.host}: {worst.text}"
    if worst.status == 404:
        return NotFound(f"{what} is not found at {worst.host}: {worst.text}; check the name of the image")
    if worst.status in _DENIED:
        return Unknown(f"pull access denied for {said}; check the image's name and the registry secret")
    if worst.status in _NOT_THERE:
        return Unknown(f"{UNAVAILABLE}: {said}")
    return Unknown(f"failed to fetch {said}")


class Patience:
    """How often a broken transfer is resumed: as long as it gets on, and not for ever."""

    _IN_A_ROW = 4
    _ENOUGH_BYTES = 1 << 20

    def __init__(self) -> None:
        self._failures = 0
        self._since = 0

    def moved(self, count: int) -> None:
        """Note bytes that have come."""
        self._since += count
        if self._since >= self._ENOUGH_BYTES:
            self._failures = 0

    def failed(self) -> float | None:
        """Note a broken transfer; return the seconds to wait before the next try, None to give up."""
        self._failures += 1
        self._since = 0
        return None if self._failures > self._IN_A_ROW else backoff_s(self._failures)


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After; one that is a date counts as none."""
    return float(retry_after) if retry_after.strip().isdecimal() and len(retry_after) < 10 else 0.0
