"""The v2 reader on sample files in a plain directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.usage import (
    BasicUsage,
    CgroupUsage,
    CpuTimes,
    DeviceIo,
    HugepageUsage,
    MemoryDetails,
)
from cri_dockerd_py.cgroups.v2 import CgroupV2
from cri_dockerd_py.model.stats import PsiData, PsiStats
from tests.cgroups.sample_files import CONTAINER_ID, lay_out_process, lay_out_v2

BASIC = BasicUsage(
    cpu_usage_ns=8_123_456_000,
    memory_usage_bytes=52428800,
    memory_inactive_file_bytes=15728640,
    memory_rss_bytes=20971520,
    memory_limit_bytes=134217728,
    page_faults=34567,
    major_page_faults=89,
    swap_usage_bytes=1048576,
    swap_limit_bytes=4194304,
    cpu_pressure=PsiStats(PsiData(5_000_000_000, 1.5, 0.75, 0.2), PsiData(1_000_000_000, 0, 0, 0)),
    memory_pressure=PsiStats(PsiData(42_000, 0, 0, 0), PsiData(40_000, 0, 0, 0)),
    io_pressure=PsiStats(PsiData(2_500_000_000, 9.99, 3, 1), PsiData(2_000_000_000, 8, 2, 0.5)),
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A container's cgroup."""
    return lay_out_v2(tmp_path)


def test_basic(directory: Path) -> None:
    """Every figure is its file's."""
    usage = CgroupV2("/").basic({"": str(directory)})

    assert usage == BASIC
    assert usage.working_set_bytes == 52428800 - 15728640


def test_full(directory: Path) -> None:
    """Every figure is its file's."""
    assert CgroupV2("/").full({"": str(directory)}) == CgroupUsage(
        basic=BASIC,
        cpu=CpuTimes(6_000_000_000, 2_123_456_000, 120, 45, 3_210_000_000),
        memory=MemoryDetails(
            cache_bytes=25165824,
            mapped_file_bytes=8388608,
            active_file_bytes=9437184,
            kernel_bytes=3145728,
            max_usage_bytes=62914560,
            failures=17,
            page_faults_own=34567,
            major_page_faults_own=89,
            oom_kills=2,
            reservation_bytes=16777216,
            swap_bytes=1048576,
        ),
        tasks=9,
        tasks_limit=100,
        devices=(DeviceIo("259:0", 1048576, 2097152, 20, 30),),
        hugepages=(HugepageUsage("2MB", 4194304, 0),),
    )


def test_locate(tmp_path: Path, directory: Path) -> None:
    """The unified line leads to the container's directory, also from a cgroup below it."""
    lay_out_process(tmp_path / "proc", 42, f"0::/pods/pod1/{CONTAINER_ID}/init.scope\n")

    assert CgroupV2(str(tmp_path), str(tmp_path / "proc")).locate(42, CONTAINER_ID) == {"": str(directory)}


def test_an_older_kernel_has_less(directory: Path) -> None:
    """Without peak, swap and pressure files those figures are 0 or unknown, and the rest is there."""
    for name in ("memory.peak", "memory.swap.current", "memory.swap.max", "cpu.pressure", "io.pressure", "io.stat"):
        (directory / name).unlink()

    usage = CgroupV2("/").full({"": str(directory)})

    assert usage is not None
    assert usage.memory.max_usage_bytes == 0
    assert usage.devices == ()
    assert usage.basic.swap_usage_bytes is None
    assert usage.basic.cpu_pressure is None
    assert usage.basic.memory_pressure == BASIC.memory_pressure


@pytest.mark.parametrize("name", ["memory.current", "memory.stat", "cpu.stat"])
def test_without_a_main_file_there_is_nothing(directory: Path, name: str) -> None:
    """A cgroup that is being removed loses its files."""
    (directory / name).unlink()

    assert CgroupV2("/").basic({"": str(directory)}) is None
    assert CgroupV2("/").full({"": str(directory)}) is None


def test_rubbish_is_nothing(directory: Path) -> None:
    """A file that does not hold a number is a cgroup that cannot be read."""
    (directory / "memory.current").write_text("what\n")

    assert CgroupV2("/").basic({"": str(directory)}) is None


def test_working_set_is_never_negative(directory: Path) -> None:
    """The two files are read one after the other, so the cache can be the larger one."""
    (directory / "memory.current").write_text("1000\n")
    usage = CgroupV2("/").basic({"": str(directory)})

    assert usage is not None
    assert usage.working_set_bytes == 0
