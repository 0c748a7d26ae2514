"""Reading cgroup v2: one directory a cgroup."""

from __future__ import annotations

import os

from cri_dockerd_py.cgroups.base import CgroupProbe, CgroupReader
from cri_dockerd_py.cgroups.files import KeptFile, read_number, read_once
from cri_dockerd_py.cgroups.parse import device_io_v2, field, pressure
from cri_dockerd_py.cgroups.usage import BasicUsage, CgroupDirs, CgroupUsage, CpuTimes, HugepageUsage, MemoryDetails


class CgroupV2(CgroupReader):
    """Reads the unified hierarchy mounted at `root`."""

    def __init__(self, root: str, proc_root: str = "/proc") -> None:
        super().__init__(proc_root)
        self._root = root.rstrip("/")

    def _dirs(self, paths: dict[str, str]) -> CgroupDirs | None:
        path = paths.get("")
        return None if path is None else {"": self._root + path.rstrip("/")}

    def _process_dir(self, dirs: CgroupDirs) -> str | None:
        return dirs[""]

    def probe(self, dirs: CgroupDirs) -> CgroupProbe:
        """Return what reads the few figures that CRI's stats need."""
        return _Probe(dirs[""])

    def full(self, dirs: CgroupDirs) -> CgroupUsage | None:
        """Return all that is known."""
        basic = self.basic(dirs)
        if basic is None:
            return None
        top = dirs[""]
        return CgroupUsage(
            basic=basic,
            cpu=_cpu_times(b"\n" + (read_once(top + "/cpu.stat") or b"")),
            memory=_memory_details(top, basic, b"\n" + (read_once(top + "/memory.stat") or b"")),
            tasks=self.task_count(dirs) or 0,
            tasks_limit=read_number(top + "/pids.max") or 0,
            devices=device_io_v2(read_once(top + "/io.stat") or b""),
            hugepages=_hugepages(top),
        )

    def task_count(self, dirs: CgroupDirs) -> int | None:
        """Return the number of tasks in the cgroup and below it."""
        return read_number(dirs[""] + "/pids.current")


class _Probe(CgroupProbe):
    def __init__(self, top: str) -> None:
        names = ("cpu.stat", "memory.current", "memory.stat", "memory.max", "memory.swap.current", "memory.swap.max")
        pressures = ("cpu.pressure", "memory.pressure", "io.pressure")
        self.files = tuple(KeptFile(f"{top}/{name}") for name in (*names, *pressures))

    def basic(self) -> BasicUsage | None:
        """Return what CRI's stats need; None when the cgroup is gone."""
        cpu, usage, memory, limit, swap, swap_limit, cpu_pressure, memory_pressure, io_pressure = self.files
        cpu_data, usage_bytes, memory_data = cpu.read(), usage.number(), memory.read()
        if usage_bytes is None or not (cpu_data and memory_data):
            return None
        stat = b"\n" + memory_data
        return BasicUsage(
            cpu_usage_ns=field(b"\n" + cpu_data, b"\nusage_usec ") * 1000,
            memory_usage_bytes=usage_bytes,
            memory_inactive_file_bytes=field(stat, b"\ninactive_file "),
            memory_rss_bytes=field(stat, b"\nanon "),
            memory_limit_bytes=limit.number(),
            page_faults=field(stat, b"\npgfault "),
            major_page_faults=field(stat, b"\npgmajfault "),
            swap_usage_bytes=swap.number(),
            swap_limit_bytes=swap_limit.number(),
            cpu_pressure=pressure(cpu_pressure.read()),
            memory_pressure=pressure(memory_pressure.read()),
            io_pressure=pressure(io_pressure.read()),
        )


def _cpu_times(stat: bytes) -> CpuTimes:
    return CpuTimes(
        user_ns=field(stat, b"\nuser_usec ") * 1000,
        system_ns=field(stat, b"\nsystem_usec ") * 1000,
        periods=field(stat, b"\nnr_periods "),
        throttled_periods=field(stat, b"\nnr_throttled "),
        throttled_ns=field(stat, b"\nthrottled_usec ") * 1000,
    )


def _memory_details(top: str, basic: BasicUsage, stat: bytes) -> MemoryDetails:
    events = b"\n" + (read_once(top + "/memory.events") or b"")
    return MemoryDetails(
        cache_bytes=field(stat, b"\nfile "),
        mapped_file_bytes=field(stat, b"\nfile_mapped "),
        active_file_bytes=field(stat, b"\nactive_file "),
        kernel_bytes=field(stat, b"\nkernel "),
        max_usage_bytes=read_number(top + "/memory.peak") or 0,
        failures=field(events, b"\nmax "),
        page_faults_own=basic.page_faults,
        major_page_faults_own=basic.major_page_faults,
        oom_kills=field(events, b"\noom_kill "),
        reservation_bytes=read_number(top + "/memory.low") or 0,
        swap_bytes=basic.swap_usage_bytes or 0,
    )


def _hugepages(top: str) -> tuple[HugepageUsage, ...]:
    try:
        names = sorted(os.listdir(top))
    except OSError:
        return ()
    sizes = [
        name.split(".")[1]
        for name in names
        if name.startswith("hugetlb.") and name.endswith(".current") and ".rsvd." not in name
    ]
    usages = {size: read_number(f"{top}/hugetlb.{size}.current") or 0 for size in sizes}
    return tuple(HugepageUsage(page_size=size, usage_bytes=usage, max_usage_bytes=0) for size, usage in usages.items())
