"""What a cgroup has used: frozen values that are the same for both cgroup versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cri_dockerd_py.model.stats import PsiStats

#: Controller → directory; cgroup v2 has the one key "".
CgroupDirs = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BasicUsage:
    """What CRI's stats need, from as few files as possible. A limit of None is none."""

    cpu_usage_ns: int
    memory_usage_bytes: int
    memory_inactive_file_bytes: int
    memory_rss_bytes: int
    memory_limit_bytes: int | None
    page_faults: int
    major_page_faults: int
    swap_usage_bytes: int | None
    swap_limit_bytes: int | None
    cpu_pressure: PsiStats | None = None
    memory_pressure: PsiStats | None = None
    io_pressure: PsiStats | None = None

    @property
    def working_set_bytes(self) -> int:
        """Memory that cannot be dropped at once."""
        return max(0, self.memory_usage_bytes - self.memory_inactive_file_bytes)


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU time by kind, and how often the quota was used up."""

    user_ns: int
    system_ns: int
    periods: int
    throttled_periods: int
    throttled_ns: int


@dataclass(frozen=True, slots=True)
class MemoryDetails:
    """Memory by kind; `*_own` leaves child cgroups out."""

    cache_bytes: int
    mapped_file_bytes: int
    active_file_bytes: int
    kernel_bytes: int
    max_usage_bytes: int
    failures: int
    page_faults_own: int
    major_page_faults_own: int
    oom_kills: int
    reservation_bytes: int
    swap_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceIo:
    """Traffic of one block device, named `major:minor`."""

    device: str
    read_bytes: int
    write_bytes: int
    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class HugepageUsage:
    """Huge pages of one size, such as `2MB`."""

    page_size: str
    usage_bytes: int
    max_usage_bytes: int


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """Everything that pod metrics tell. `tasks_limit` is 0 when there is none."""

    basic: BasicUsage
    cpu: CpuTimes
    memory: MemoryDetails
    tasks: int
    tasks_limit: int
    devices: tuple[DeviceIo, ...] = ()
    hugepages: tuple[HugepageUsage, ...] = ()
