"""The node's own seccomp and AppArmor profiles. Blocking; use a thread."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from cri_dockerd_py.errors import InvalidArgument

_PROFILE_LIMIT_BYTES = 4 << 20
_APPARMOR_PROFILES = Path("/sys/kernel/security/apparmor/profiles")


def read_seccomp_document(path: str) -> dict[str, object]:
    """Return the JSON object of a seccomp profile; InvalidArgument says why it cannot be used (SCC-05)."""
    if not os.path.isabs(path):
        raise InvalidArgument(f"seccomp profile {path!r} must be an absolute path")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidArgument(f"seccomp profile {path} is not a file")
            content = file.read(_PROFILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"seccomp profile {path} cannot be read: {error.strerror}") from error
    if len(content) > _PROFILE_LIMIT_BYTES:
        raise InvalidArgument(f"seccomp profile {path} is larger than {_PROFILE_LIMIT_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"seccomp profile {path} is no JSON: {error}") from error
    if not isinstance(document, dict) or "defaultAction" not in document:
        raise InvalidArgument(f"seccomp profile {path} has no defaultAction")
    return document


def loaded_apparmor_profiles() -> frozenset[str] | None:
    """Return the names of the profiles that the kernel has, None when they cannot be read."""
    try:
        lines = _APPARMOR_PROFILES.read_text().splitlines()
    except OSError:
        return None
    return frozenset(line.rpartition(" (")[0] for line in lines)
