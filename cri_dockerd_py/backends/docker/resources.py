"""Limits as fields of Docker's HostConfig and of its update call."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.node import CgroupDriver
from cri_dockerd_py.model.resources import Resources

MEMORY_MINIMUM_BYTES = 6 << 20
_SLICE = ".slice"


def limit_fields(resources: Resources) -> dict[str, Any]:
    """Return the limits that are set; a memory limit without a swap limit allows no swap (RES-04, UCR-04)."""
    fields: dict[str, Any] = {
        "CpuPeriod": resources.cpu_period_us,
        "CpuQuota": resources.cpu_quota_us,
        "CpuShares": resources.cpu_shares,
        "Memory": _checked_memory(resources.memory_limit_bytes),
        "MemorySwap": resources.memory_swap_limit_bytes or resources.memory_limit_bytes,
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
    }
    return {name: value for name, value in fields.items() if value}


def cgroup_parent(path: str, driver: CgroupDriver) -> str:
    """Return the parent in the form that Docker's driver takes: the path, or the name of a slice."""
    if driver is CgroupDriver.CGROUPFS or not path:
        return path
    name = posixpath.basename(path.rstrip("/"))
    if not name.endswith(_SLICE) or name == _SLICE:
        raise InvalidArgument(
            f"cgroup parent {path!r} is not a systemd slice: Docker uses the systemd cgroup driver, "
            f"so kubelet's cgroupDriver must be systemd as well"
        )
    return name


def resources_of(host_config: Mapping[str, Any]) -> Resources:
    """Return the limits that a container was made with or was given since."""
    return Resources(
        cpu_period_us=int(host_config.get("CpuPeriod") or 0),
        cpu_quota_us=int(host_config.get("CpuQuota") or 0),
        cpu_shares=int(host_config.get("CpuShares") or 0),
        memory_limit_bytes=int(host_config.get("Memory") or 0),
        memory_swap_limit_bytes=int(host_config.get("MemorySwap") or 0),
        oom_score_adj=int(host_config.get("OomScoreAdj") or 0),
        cpuset_cpus=str(host_config.get("CpusetCpus") or ""),
        cpuset_mems=str(host_config.get("CpusetMems") or ""),
    )


def _checked_memory(limit_bytes: int) -> int:
    if 0 < limit_bytes < MEMORY_MINIMUM_BYTES:
        raise InvalidArgument(
            f"memory limit of {limit_bytes} bytes: Docker Engine allows no less than {MEMORY_MINIMUM_BYTES} (6 MiB)"
        )
    return limit_bytes
