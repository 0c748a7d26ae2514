"""Limits in force."""

from __future__ import annotations

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.model.resources import Resources


def linux_resources(resources: Resources) -> pb.LinuxContainerResources:
    """Return the limits (CST-13)."""
    return pb.LinuxContainerResources(
        cpu_period=resources.cpu_period_us,
        cpu_quota=resources.cpu_quota_us,
        cpu_shares=resources.cpu_shares,
        memory_limit_in_bytes=resources.memory_limit_bytes,
        memory_swap_limit_in_bytes=resources.memory_swap_limit_bytes,
        oom_score_adj=resources.oom_score_adj,
        cpuset_cpus=resources.cpuset_cpus,
        cpuset_mems=resources.cpuset_mems,
        hugepage_limits=[
            pb.HugepageLimit(page_size=limit.page_size, limit=limit.limit_bytes) for limit in resources.hugepage_limits
        ],
        unified=resources.unified,
    )
