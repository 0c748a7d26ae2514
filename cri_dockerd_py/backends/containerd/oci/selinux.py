"""SELinux labels (SEL-01 to SEL-04); a label is `user:role:type:level`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

from cri_dockerd_py.backends.containerd.oci.facts import SelinuxContexts, SelinuxLabels
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import SelinuxOptions

_LEVEL = re.compile(r"s\d{1,4}(-s\d{1,4})?(:c\d{1,4}(\.c\d{1,4})?(,c\d{1,4}(\.c\d{1,4})?)*)?", re.ASCII)
_CATEGORIES = 1024


def sandbox_labels(
    options: SelinuxOptions | None, contexts: SelinuxContexts | None, level: str, *, privileged: bool
) -> SelinuxLabels:
    """Return a pod's labels; `level` is its own, for when the request names none."""
    if contexts is None:
        return SelinuxLabels()
    wish = options or SelinuxOptions()
    process = _with(contexts.process, wish, wish.level or level)
    mount = _with(contexts.file, SelinuxOptions(user=wish.user), wish.level or level)
    return SelinuxLabels("" if privileged else process, mount)


def container_labels(
    options: SelinuxOptions | None, sandbox: SelinuxLabels, contexts: SelinuxContexts | None, *, privileged: bool
) -> SelinuxLabels:
    """Return a container's labels: its pod's, changed by its own options; none for a privileged process."""
    if contexts is None:
        return SelinuxLabels()
    wish = options or SelinuxOptions()
    # The process label of a privileged pod is empty, its level is kept with the mounts
    level = wish.level or _level_of(sandbox.mount)
    process = _with(sandbox.process or contexts.process, wish, level)
    mount = _with(sandbox.mount or contexts.file, SelinuxOptions(user=wish.user), level)
    return SelinuxLabels("" if privileged else process, mount)


def pod_level(sandbox_id: str, used: Collection[str] = ()) -> str:
    """Return a level with two categories of its own for a pod; it is none of `used`."""
    for attempt in range(_CATEGORIES):
        digest = hashlib.sha256(f"{sandbox_id}/{attempt}".encode()).digest()
        first, second = (int.from_bytes(digest[index : index + 4], "big") % _CATEGORIES for index in (0, 4))
        level = f"s0:c{min(first, second)},c{max(first, second)}"
        if first != second and level not in used:
            return level
    raise InvalidArgument("no SELinux level is free for another pod: remove pods")


def _level_of(label: str) -> str:
    return [*label.split(":", 3), "", "", ""][3]


def _with(label: str, options: SelinuxOptions, level: str) -> str:
    if level and not _LEVEL.fullmatch(level):
        raise InvalidArgument(f"SELinux level {level[:80]!r} is none: give one such as s0:c1,c2")
    user, role, kind, own_level = [*label.split(":", 3), "", "", ""][:4]
    parts = (options.user or user, options.role or role, options.type or kind, level or own_level)
    return ":".join(part for part in parts if part)
