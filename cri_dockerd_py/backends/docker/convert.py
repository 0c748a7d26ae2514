"""What sandboxes and containers have in common in Docker's inspect documents (pure)."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cri_dockerd_py.backends.docker import labels as keys
from cri_dockerd_py.model.security import NamespaceMode

Document = Mapping[str, Any]

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class NotOursError(ValueError):
    """The object carries our labels, yet neither its name nor its labels say whose it is."""


def time_ns(text: object) -> int:
    """Return nanoseconds since the epoch of RFC 3339 text, 0 for Docker's zero time and for what is no time."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return 0
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if year < 1970:
        return 0
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * 1_000_000_000 + int((match[7] or "").ljust(9, "0"))


def docker_type(document: Document) -> str:
    """Return the value of the type label, "" for what is not ours."""
    return str(((document.get("Config") or {}).get("Labels") or {}).get(keys.TYPE) or "")


def attempt_of(name: str) -> int:
    """Return the attempt at the end of a name that is not of the usual form."""
    last = name.rpartition("_")[2]
    return int(last) if last.isascii() and last.isdigit() else 0


def node_or(mode: object, other: NamespaceMode) -> NamespaceMode:
    """Return NODE for the host's namespace, else `other`."""
    return NamespaceMode.NODE if mode == "host" else other


def user_ids(user: object) -> tuple[int | None, int | None]:
    """Return the numbers in Config.User; a name alone is in the image and cannot be told here."""
    name, _, group = str(user or "").partition(":")
    if not name.isdecimal():
        return None, None
    return int(name), int(group) if group.isdecimal() else None


def group_ids(texts: Iterable[object] | None) -> tuple[int, ...]:
    """Return the numbers in GroupAdd."""
    return tuple(int(str(text)) for text in texts or () if str(text).isdecimal())
