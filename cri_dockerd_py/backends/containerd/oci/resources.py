"""Limits as `linux.resources` of a spec and of an update (RES-01 to RES-07)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cri_dockerd_py.backends.containerd.oci.facts import HostFacts
from cri_dockerd_py.backends.unified_limits import check_unified
from cri_dockerd_py.model.resources import HugepageLimit, Resources


def linux_resources(resources: Resources, facts: HostFacts) -> dict[str, object]:
    """Return the limits that are set; nothing for those that are not, so that an update leaves them alone (UCR-01).

    A memory limit without a swap limit allows no swap, where the kernel counts swap (RES-04).
    """
    check_unified(resources.unified, facts.cgroup_version)
    sections: dict[str, Any] = {
        "cpu": _set(
            shares=resources.cpu_shares,
            quota=resources.cpu_quota_us,
            period=resources.cpu_period_us,
            cpus=resources.cpuset_cpus,
            mems=resources.cpuset_mems,
        ),
        "memory": _set(limit=resources.memory_limit_bytes, swap=_swap(resources, facts)),
        "hugepageLimits": _hugepages(resources.hugepage_limits, facts),
        "unified": dict(resources.unified),
    }
    return {name: section for name, section in sections.items() if section}


def oom_score_adj(score: int, facts: HostFacts) -> int:
    """Return the score, raised to what the engine has the right to set."""
    return max(score, facts.least_oom_score_adj)


def _swap(resources: Resources, facts: HostFacts) -> int:
    if resources.memory_swap_limit_bytes:
        return resources.memory_swap_limit_bytes
    return resources.memory_limit_bytes if facts.swap_accounting else 0


def _set(**values: int | str) -> dict[str, int | str]:
    return {name: value for name, value in values.items() if value}


def _hugepages(limits: Iterable[HugepageLimit], facts: HostFacts) -> list[dict[str, Any]]:
    """Return the limits that this host can hold: kubelet sends them whether or not there is a controller (RES-06)."""
    return [
        {"pageSize": limit.page_size, "limit": limit.limit_bytes}
        for limit in limits
        if limit.page_size in facts.hugepage_sizes
    ]
