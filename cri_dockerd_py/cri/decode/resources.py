"""LinuxContainerResources to Resources."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.resources import HugepageLimit, Resources

_INT64_MAX = 2**63 - 1
_PERIOD_LIMIT_US = 1_000_000
_SHARES_LIMIT = 262_144
_OOM_SCORE = 1000
_CPUSET = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", re.ASCII)
_CPUSET_LIMIT = 8192
_PAGE_SIZE = re.compile(r"[1-9][0-9]{0,5}(B|KB|MB|GB|TB|PB)")
_UNIFIED_KEY = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")
_ENTRIES = 256


def resources(field: str, given: pb.LinuxContainerResources) -> Resources:
    """Return limits within what the kernel can take; zero and empty mean "not set" (RES-01)."""
    return Resources(
        cpu_period_us=fields.number(f"{field}.cpu_period", given.cpu_period, 0, _PERIOD_LIMIT_US),
        cpu_quota_us=fields.number(f"{field}.cpu_quota", given.cpu_quota, -1, _INT64_MAX),
        cpu_shares=fields.number(f"{field}.cpu_shares", given.cpu_shares, 0, _SHARES_LIMIT),
        memory_limit_bytes=fields.number(f"{field}.memory_limit_in_bytes", given.memory_limit_in_bytes, -1, _INT64_MAX),
        memory_swap_limit_bytes=fields.number(
            f"{field}.memory_swap_limit_in_bytes", given.memory_swap_limit_in_bytes, -1, _INT64_MAX
        ),
        oom_score_adj=fields.number(f"{field}.oom_score_adj", given.oom_score_adj, -_OOM_SCORE, _OOM_SCORE),
        cpuset_cpus=_cpuset(f"{field}.cpuset_cpus", given.cpuset_cpus),
        cpuset_mems=_cpuset(f"{field}.cpuset_mems", given.cpuset_mems),
        hugepage_limits=tuple(
            _hugepage_limit(f"{field}.hugepage_limits[{index}]", limit)
            for index, limit in enumerate(given.hugepage_limits)
        ),
        unified=_unified(f"{field}.unified", given.unified),
    )


def _cpuset(field: str, value: str) -> str:
    if not value:
        return ""
    if len(value) > _CPUSET_LIMIT or not _CPUSET.fullmatch(value):
        fields.refuse(field, value, "give a list such as 0-3,7")
    for part in value.split(","):
        low, _, high = part.partition("-")
        if high and int(low) > int(high):
            fields.refuse(field, value, f"the range {part} runs backwards")
    return value


def _hugepage_limit(field: str, limit: pb.HugepageLimit) -> HugepageLimit:
    if not _PAGE_SIZE.fullmatch(limit.page_size):
        fields.refuse(f"{field}.page_size", limit.page_size, "give a size such as 2MB or 1GB")
    return HugepageLimit(limit.page_size, limit.limit)


def _unified(field: str, given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > _ENTRIES:
        raise InvalidArgument(f"{field}: {len(given)} entries; at most {_ENTRIES} are allowed")
    for key, value in given.items():
        if len(key) > fields.NAME_LIMIT or not _UNIFIED_KEY.fullmatch(key):
            fields.refuse(f"{field} key", key, "give the name of a cgroup v2 file, such as memory.high")
        fields.without_nul(f"{field}[{key}]", value)
    return dict(given)
