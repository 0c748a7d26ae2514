"""Object ids: opaque to callers; 64 lower-case hex digits for sandboxes and containers (GEN-08 to GEN-10)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cri_dockerd_py.errors import InvalidArgument, NotFound

_ID_OR_PREFIX = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,254}")


def check_id(kind: str, value: str) -> str:
    """Return `value` if it can be an id or a prefix of one; never let a path or a query through to an engine."""
    if not value:
        raise InvalidArgument(f"missing required {kind} id: pass the id that the create call returned")
    if not _ID_OR_PREFIX.fullmatch(value):
        raise InvalidArgument(f"{value[:80]!r} is not a {kind} id: ids are made of letters and digits")
    return value


def resolve_prefix(kind: str, prefix: str, known: Iterable[str]) -> str:
    """Return the one known id that starts with `prefix`; NotFound when none does, InvalidArgument when several do."""
    matches = [candidate for candidate in known if candidate.startswith(prefix)]
    if not matches:
        raise NotFound(f"{kind} {prefix!r} not found")
    if len(matches) > 1:
        raise InvalidArgument(f"{kind} id {prefix!r} is ambiguous: it begins {len(matches)} ids; give more digits")
    return matches[0]
