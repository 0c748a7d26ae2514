"""WWW-Authenticate: what a registry demands before it answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?=,|$)')
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|\s*(?=,|$))")
_TOKEN68 = re.compile(r"\s*[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")
_COMMA = re.compile(r"[\s,]*")
_QUOTED_PAIR = re.compile(r"\\(.)")
_HEADER_LIMIT = 16 << 10
_PREFERENCE = ("bearer", "basic")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One demand; scheme and names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges of all headers in order; from what cannot be understood on, a header is left out."""
    return tuple(challenge for header in headers for challenge in _parse(header[:_HEADER_LIMIT]))


def preferred(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the challenge to answer: tokens before passwords; None when none can be answered."""
    known = [challenge for challenge in challenges if challenge.scheme in _PREFERENCE]
    return min(known, key=lambda challenge: _PREFERENCE.index(challenge.scheme), default=None)


def _parse(header: str) -> Iterable[Challenge]:
    at = _skip(header, 0)
    while at < len(header):
        scheme = _SCHEME.match(header, at)
        if scheme is None:
            return
        parameters: dict[str, str] = {}
        at = scheme.end()
        if _PARAMETER.match(header, at) is None and (blob := _TOKEN68.match(header, at)):
            at = blob.end()
        while parameter := _PARAMETER.match(header, at):
            name, quoted, plain = parameter.groups()
            parameters.setdefault(name.lower(), plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted))
            at = _skip(header, parameter.end())
        yield Challenge(scheme[1].lower(), parameters)
        at = _skip(header, at)


def _skip(header: str, at: int) -> int:
    found = _COMMA.match(header, at)
    return found.end() if found else at
