"""The v1 reader on sample files in plain directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.usage import (
    BasicUsage,
    CgroupDirs,
    CgroupUsage,
    CpuTimes,
    DeviceIo,
    HugepageUsage,
    MemoryDetails,
)
from cri_dockerd_py.cgroups.v1 import CgroupV1
from tests.cgroups.sample_files import CONTAINER_ID, lay_out_process, lay_out_v1

CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb")
BASIC = BasicUsage(
    cpu_usage_ns=7_000_000_000,
    memory_usage_bytes=50000000,
    memory_inactive_file_bytes=12000000,
    memory_rss_bytes=25000000,
    memory_limit_bytes=104857600,
    page_faults=1000,
    major_page_faults=10,
    swap_usage_bytes=5000000,
    swap_limit_bytes=20971520,
)


@pytest.fixture
def reader(tmp_path: Path) -> CgroupV1:
    """A reader of hierarchies with one container's cgroup, of process 42."""
    lay_out_v1(tmp_path)
    lines = "".join(f"{number}:{name}:/pods/pod1/{CONTAINER_ID}\n" for number, name in enumerate(CONTROLLERS, 1))
    lay_out_process(tmp_path / "proc", 42, lines)
    return CgroupV1({name: str(tmp_path / name) for name in CONTROLLERS}, str(tmp_path / "proc"))


@pytest.fixture
def dirs(reader: CgroupV1) -> CgroupDirs:
    """Where the container's cgroup is."""
    found = reader.locate(42, CONTAINER_ID)
    assert found is not None
    return found


def test_locate(tmp_path: Path, dirs: CgroupDirs) -> None:
    """Each controller has its own directory."""
    assert dirs == {name: str(tmp_path / name / "pods/pod1" / CONTAINER_ID) for name in CONTROLLERS}


def test_basic(reader: CgroupV1, dirs: CgroupDirs) -> None:
    """The hierarchy's totals count, not the cgroup's own part; the swap limit is what is beyond memory's."""
    assert reader.basic(dirs) == BASIC


def test_full(reader: CgroupV1, dirs: CgroupDirs) -> None:
    """Every figure is its file's; ticks stand in for nanoseconds on an old kernel, and bfq's counts for throttle's."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

    assert reader.full(dirs) == CgroupUsage(
        basic=BASIC,
        cpu=CpuTimes(500 * tick_ns, 200 * tick_ns, 50, 20, 1_500_000_000),
        memory=MemoryDetails(
            cache_bytes=20000000,
            mapped_file_bytes=3000000,
            active_file_bytes=8000000,
            kernel_bytes=2000000,
            max_usage_bytes=60000000,
            failures=11,
            page_faults_own=5,
            major_page_faults_own=6,
            oom_kills=1,
            reservation_bytes=0,
            swap_bytes=5000000,
        ),
        tasks=5,
        tasks_limit=0,
        devices=(DeviceIo("8:0", 4096, 8192, 1, 2),),
        hugepages=(HugepageUsage("2MB", 2097152, 6291456),),
    )


def test_a_kernel_that_does_not_count_swap(reader: CgroupV1, dirs: CgroupDirs) -> None:
    """Without swap accounting swap is unknown, not 0."""
    stat = Path(dirs["memory"]) / "memory.stat"
    stat.write_text(stat.read_text().replace("hierarchical_memsw_limit 125829120\n", ""))
    usage = reader.basic(dirs)

    assert usage is not None
    assert (usage.swap_usage_bytes, usage.swap_limit_bytes) == (None, None)
    assert usage.memory_limit_bytes == 104857600


@pytest.mark.parametrize("name", ["cpuacct/cpuacct.usage", "memory/memory.usage_in_bytes", "memory/memory.stat"])
def test_without_a_main_file_there_is_nothing(reader: CgroupV1, dirs: CgroupDirs, name: str) -> None:
    """A cgroup that is being removed loses its files."""
    controller, _, file = name.partition("/")
    (Path(dirs[controller]) / file).unlink()

    assert reader.basic(dirs) is None
    assert reader.full(dirs) is None


def test_only_the_main_controllers_are_needed(tmp_path: Path) -> None:
    """A host without pids, blkio and hugetlb still has stats."""
    lay_out_v1(tmp_path)
    lay_out_process(
        tmp_path / "proc", 42, f"2:cpu,cpuacct:/pods/pod1/{CONTAINER_ID}\n3:memory:/pods/pod1/{CONTAINER_ID}\n"
    )
    reader = CgroupV1({name: str(tmp_path / name) for name in ("cpuacct", "memory")}, str(tmp_path / "proc"))
    dirs = reader.locate(42, CONTAINER_ID)
    assert dirs is not None

    usage = reader.full(dirs)

    assert usage is not None
    assert usage.basic == BASIC
    assert (usage.tasks, usage.devices, usage.hugepages) == (0, (), ())
    assert reader.task_count(dirs) is None


def test_without_memory_controller_there_is_nothing(tmp_path: Path) -> None:
    """A process whose memory cgroup is another one is not located."""
    lay_out_process(tmp_path / "proc", 42, f"2:cpu,cpuacct:/pods/{CONTAINER_ID}\n3:memory:/elsewhere\n")
    reader = CgroupV1({"cpuacct": "/a", "memory": "/b"}, str(tmp_path / "proc"))

    assert reader.locate(42, CONTAINER_ID) is None
