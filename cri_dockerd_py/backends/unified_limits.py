"""Which files of cgroup v2 a caller may set as limits (RES-05)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cri_dockerd_py.errors import InvalidArgument

_KEY = re.compile(r"(?:memory|cpu|cpuset|io|pids|hugetlb|rdma|misc)(?:\.[A-Za-z0-9_]+)+")
_NOT_LIMITS = frozenset({"memory.reclaim", "memory.peak", "cpuset.cpus.partition"})


def check_unified(unified: Mapping[str, str], cgroup_version: int) -> None:
    """Refuse what could not be written into the container's cgroup once it runs."""
    if unified and cgroup_version != 2:
        raise InvalidArgument(f"unified limits ({', '.join(unified)}) need cgroup v2, and this node has v1")
    for key in unified:
        if not _KEY.fullmatch(key) or key in _NOT_LIMITS:
            raise InvalidArgument(f"{key!r} is not a file of cgroup v2 that sets a limit")
