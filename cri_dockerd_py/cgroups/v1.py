"""Reading cgroup v1: one hierarchy a controller, each with its own path."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cri_dockerd_py.cgroups.base import CgroupProbe, CgroupReader
from cri_dockerd_py.cgroups.files import KeptFile, read_number, read_once
from cri_dockerd_py.cgroups.parse import device_io_v1, field, flat_keyed, has_field
from cri_dockerd_py.cgroups.usage import (
    BasicUsage,
    CgroupDirs,
    CgroupUsage,
    CpuTimes,
    DeviceIo,
    HugepageUsage,
    MemoryDetails,
)

#: The kernel writes "no limit" as a number that differs by page size; no machine has this much memory.
_NO_LIMIT_BYTES = 1 << 62
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_USED = ("cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb")


class CgroupV1(CgroupReader):
    """Reads the hierarchies mounted at `roots` (controller → directory)."""

    def __init__(self, roots: Mapping[str, str], proc_root: str = "/proc") -> None:
        super().__init__(proc_root)
        self._roots = {controller: roots[controller] for controller in _USED if controller in roots}

    def _dirs(self, paths: dict[str, str]) -> CgroupDirs | None:
        dirs = {name: root + paths[name].rstrip("/") for name, root in self._roots.items() if name in paths}
        return dirs if "cpuacct" in dirs and "memory" in dirs else None

    def _process_dir(self, dirs: CgroupDirs) -> str | None:
        return dirs.get("memory")

    def probe(self, dirs: CgroupDirs) -> CgroupProbe:
        """Return what reads the few figures that CRI's stats need."""
        return _Probe(dirs)

    def full(self, dirs: CgroupDirs) -> CgroupUsage | None:
        """Return all that is known."""
        basic = self.basic(dirs)
        stat = read_once(dirs["memory"] + "/memory.stat")
        if basic is None or stat is None:
            return None
        return CgroupUsage(
            basic=basic,
            cpu=_cpu_times(dirs),
            memory=_memory_details(dirs["memory"], b"\n" + stat),
            tasks=self.task_count(dirs) or 0,
            tasks_limit=read_number(dirs.get("pids", "") + "/pids.max") or 0,
            devices=_devices(dirs.get("blkio")),
            hugepages=_hugepages(dirs.get("hugetlb")),
        )

    def task_count(self, dirs: CgroupDirs) -> int | None:
        """Return the number of tasks in the cgroup and below it."""
        return read_number(dirs.get("pids", "") + "/pids.current")


class _Probe(CgroupProbe):
    """Three reads, two more under a limit."""

    def __init__(self, dirs: CgroupDirs) -> None:
        memory = dirs["memory"]
        self._cpu = KeptFile(dirs["cpuacct"] + "/cpuacct.usage")
        self._usage = KeptFile(memory + "/memory.usage_in_bytes")
        self._stat = KeptFile(memory + "/memory.stat")
        self._limit = KeptFile(memory + "/memory.limit_in_bytes")
        self._both_limit = KeptFile(memory + "/memory.memsw.limit_in_bytes")
        self.files = (self._cpu, self._usage, self._stat, self._limit, self._both_limit)

    def basic(self) -> BasicUsage | None:
        """Return what CRI's stats need; None when the cgroup is gone."""
        cpu_usage_ns, usage_bytes, data = self._cpu.number(), self._usage.number(), self._stat.read()
        if cpu_usage_ns is None or usage_bytes is None or not data:
            return None
        stat = b"\n" + data
        limit_bytes, swap_limit_bytes = self._limits(stat)
        return BasicUsage(
            cpu_usage_ns=cpu_usage_ns,
            memory_usage_bytes=usage_bytes,
            memory_inactive_file_bytes=field(stat, b"\ntotal_inactive_file "),
            memory_rss_bytes=field(stat, b"\ntotal_rss "),
            memory_limit_bytes=limit_bytes,
            page_faults=field(stat, b"\ntotal_pgfault "),
            major_page_faults=field(stat, b"\ntotal_pgmajfault "),
            swap_usage_bytes=field(stat, b"\ntotal_swap ") if _counts_swap(stat) else None,
            swap_limit_bytes=swap_limit_bytes,
        )

    def _limits(self, stat: bytes) -> tuple[int | None, int | None]:
        """Return the cgroup's own limits of memory and of swap.

        The hierarchical limit is the least one on the way up: only when there is one can there be an own one.
        """
        if field(stat, b"\nhierarchical_memory_limit ") >= _NO_LIMIT_BYTES:
            return None, None
        limit = _real_limit(self._limit.number())
        both = _real_limit(self._both_limit.number()) if limit is not None and _counts_swap(stat) else None
        return limit, None if limit is None or both is None else max(0, both - limit)


def _counts_swap(stat: bytes) -> bool:
    return has_field(stat, b"\nhierarchical_memsw_limit ")


def _real_limit(value: int | None) -> int | None:
    return value if value is not None and value < _NO_LIMIT_BYTES else None


def _cpu_times(dirs: CgroupDirs) -> CpuTimes:
    user, system = (read_number(f"{dirs['cpuacct']}/cpuacct.usage_{kind}") for kind in ("user", "sys"))
    if user is None or system is None:
        ticks = flat_keyed(read_once(dirs["cpuacct"] + "/cpuacct.stat") or b"")
        user, system = ticks.get("user", 0) * _TICK_NS, ticks.get("system", 0) * _TICK_NS
    stat = flat_keyed(read_once(dirs.get("cpu", "") + "/cpu.stat") or b"")
    return CpuTimes(
        user_ns=user,
        system_ns=system,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_time", 0),
    )


def _memory_details(memory: str, stat: bytes) -> MemoryDetails:
    return MemoryDetails(
        cache_bytes=field(stat, b"\ntotal_cache "),
        mapped_file_bytes=field(stat, b"\ntotal_mapped_file "),
        active_file_bytes=field(stat, b"\ntotal_active_file "),
        kernel_bytes=read_number(memory + "/memory.kmem.usage_in_bytes") or 0,
        max_usage_bytes=read_number(memory + "/memory.max_usage_in_bytes") or 0,
        # With no swap allowed both limits are the same, and it is the one of memory and swap that is hit.
        failures=sum(read_number(f"{memory}/memory.{kind}failcnt") or 0 for kind in ("", "memsw.")),
        page_faults_own=field(stat, b"\npgfault "),
        major_page_faults_own=field(stat, b"\npgmajfault "),
        oom_kills=field(b"\n" + (read_once(memory + "/memory.oom_control") or b""), b"\noom_kill "),
        reservation_bytes=_real_limit(read_number(memory + "/memory.soft_limit_in_bytes")) or 0,
        swap_bytes=field(stat, b"\ntotal_swap "),
    )


def _devices(blkio: str | None) -> tuple[DeviceIo, ...]:
    if blkio is None:
        return ()
    # Which of the two counts depends on the kernel and on the device's scheduler.
    for kind in ("throttle", "bfq"):
        amounts = read_once(f"{blkio}/blkio.{kind}.io_service_bytes_recursive") or b""
        counts = read_once(f"{blkio}/blkio.{kind}.io_serviced_recursive") or b""
        if devices := device_io_v1(amounts, counts):
            return devices
    return ()


def _hugepages(hugetlb: str | None) -> tuple[HugepageUsage, ...]:
    if hugetlb is None:
        return ()
    try:
        names = sorted(os.listdir(hugetlb))
    except OSError:
        return ()
    sizes = [name.split(".")[1] for name in names if name.endswith(".max_usage_in_bytes") and ".rsvd." not in name]
    return tuple(
        HugepageUsage(
            page_size=size,
            usage_bytes=read_number(f"{hugetlb}/hugetlb.{size}.usage_in_bytes") or 0,
            max_usage_bytes=read_number(f"{hugetlb}/hugetlb.{size}.max_usage_in_bytes") or 0,
        )
        for size in sizes
    )
