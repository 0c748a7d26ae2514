"""Readers against this machine's kernel."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.base import CgroupReader, parent_of
from cri_dockerd_py.cgroups.detect import CgroupLayout
from cri_dockerd_py.cgroups.parse import pressure
from cri_dockerd_py.cgroups.usage import BasicUsage, CgroupUsage
from cri_dockerd_py.cgroups.v2 import CgroupV2
from tests.cgroups.host import HostCgroup, removed, until

MIB = 1024 * 1024
IDLE = "print('ready', flush=True); input()"


def basic(reader: CgroupReader, pid: int, cgroup: HostCgroup) -> BasicUsage:
    """Read the few figures of the cgroup that the process is in."""
    dirs = reader.locate(pid, cgroup.container_id)
    assert dirs is not None
    usage = reader.basic(dirs)
    assert usage is not None
    return usage


def full(reader: CgroupReader, pid: int, cgroup: HostCgroup) -> CgroupUsage:
    """Read all figures of the cgroup that the process is in."""
    dirs = reader.locate(pid, cgroup.container_id)
    assert dirs is not None
    usage = reader.full(dirs)
    assert usage is not None
    return usage


def test_locate_finds_every_directory(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """The directories that were made are the ones found through a process in them."""
    process = cgroup.run_python(IDLE)

    dirs = reader.locate(process.pid, cgroup.container_id)

    assert dirs is not None
    assert {name: Path(path) for name, path in dirs.items()} == cgroup.directories


def test_locate_refuses_a_process_of_somebody_else(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """A pid that now belongs to another process leads nowhere."""
    cgroup.run_python(IDLE)

    assert reader.locate(os.getpid(), cgroup.container_id) is None


def test_cpu_time_is_the_processes_own(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """CPU time grows with work, and is split into user and system time."""
    process = cgroup.run_python("print('ready', flush=True)\nwhile True: pass")
    until(lambda: basic(reader, process.pid, cgroup).cpu_usage_ns > 200_000_000, "0.2 s of CPU time")
    process.send_signal(signal.SIGSTOP)

    usage = full(reader, process.pid, cgroup)

    assert usage.cpu.user_ns > 100_000_000
    assert usage.cpu.user_ns + usage.cpu.system_ns <= usage.basic.cpu_usage_ns * 1.5


def test_throttling_is_counted(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """A process that wants more than its quota is seen throttled."""
    if cgroup.version == 2:
        (cgroup.directories[""] / "cpu.max").write_text("5000 50000")
    else:
        cgroup.write("cpu/cpu.cfs_period_us", "", "50000")
        cgroup.write("cpu/cpu.cfs_quota_us", "", "5000")
    process = cgroup.run_python("print('ready', flush=True)\nwhile True: pass")

    until(lambda: full(reader, process.pid, cgroup).cpu.throttled_periods >= 3, "three throttled periods")

    cpu = full(reader, process.pid, cgroup).cpu
    assert cpu.periods >= cpu.throttled_periods
    assert cpu.throttled_ns > 0


def test_anonymous_memory_is_resident(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """What a process writes to is in rss, usage and the working set; the limit is the cgroup's own."""
    cgroup.write("memory/memory.limit_in_bytes", "memory.max", str(128 * MIB))
    process = cgroup.run_python("b = bytearray(b'x') * (30 << 20); print('ready', flush=True); input()")

    usage = basic(reader, process.pid, cgroup)

    assert 30 * MIB <= usage.memory_rss_bytes <= 60 * MIB
    assert usage.working_set_bytes >= 30 * MIB
    assert usage.memory_usage_bytes >= usage.working_set_bytes
    assert usage.memory_limit_bytes == 128 * MIB
    assert usage.page_faults > 0


def test_no_limit_reads_as_none(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """The kernel's huge number, or its word max, is not taken for a limit."""
    process = cgroup.run_python(IDLE)

    assert basic(reader, process.pid, cgroup).memory_limit_bytes is None
    assert basic(reader, process.pid, cgroup).swap_limit_bytes is None
    assert full(reader, process.pid, cgroup).tasks_limit == 0


def test_a_limit_of_the_pod_is_not_the_containers(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """Only a limit of the cgroup itself counts."""
    above = cgroup.directories.get("", cgroup.directories.get("memory"))
    assert above is not None
    name = "memory.max" if cgroup.version == 2 else "memory.limit_in_bytes"
    (above.parent / name).write_text(str(256 * MIB))
    process = cgroup.run_python(IDLE)

    assert basic(reader, process.pid, cgroup).memory_limit_bytes is None


def test_page_cache_is_not_in_the_working_set(reader: CgroupReader, cgroup: HostCgroup, tmp_path: Path) -> None:
    """A file that was read once is usage and inactive cache, and can be dropped: not working set."""
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 24 * MIB)
    code = f"f = open({str(path)!r}, 'rb')\nwhile f.read(1 << 20): pass\nprint('ready', flush=True); input()"
    process = cgroup.run_python(code)

    usage = full(reader, process.pid, cgroup)

    assert usage.basic.memory_usage_bytes >= 24 * MIB
    assert usage.basic.memory_inactive_file_bytes >= 20 * MIB
    assert usage.basic.working_set_bytes <= usage.basic.memory_usage_bytes - 20 * MIB
    assert usage.memory.cache_bytes >= 24 * MIB
    assert usage.memory.max_usage_bytes == 0 or usage.memory.max_usage_bytes >= 24 * MIB


def test_out_of_memory_is_counted(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """A process that the kernel kills over the limit leaves an OOM event behind."""
    cgroup.write("memory/memory.limit_in_bytes", "memory.max", str(32 * MIB))
    watcher = cgroup.run_python(IDLE)
    victim = cgroup.run_python("print('ready', flush=True); b = bytearray(b'x') * (256 << 20); input()")
    if cgroup.version == 1 and (cgroup.directories["memory"] / "memory.memsw.limit_in_bytes").exists():
        cgroup.write("memory/memory.memsw.limit_in_bytes", "", str(32 * MIB))

    until(lambda: victim.poll() is not None, "the kill")

    memory = full(reader, watcher.pid, cgroup).memory
    assert victim.returncode == -signal.SIGKILL
    assert memory.oom_kills >= 1


def test_tasks_processes_and_their_limit(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """Threads are tasks; processes are counted in child cgroups too."""
    cgroup.write("pids/pids.max", "pids.max", "77")
    code = (
        "import threading; [threading.Thread(target=input, daemon=True).start() for _ in range(3)]\n"
        "print('ready', flush=True); threading.Event().wait()"
    )
    first = cgroup.run_python(code)
    second = cgroup.run_python(IDLE)
    if cgroup.version == 1:
        child = cgroup.directories["memory"] / "child"
        child.mkdir()
        (child / "cgroup.procs").write_text(str(second.pid))
    dirs = reader.locate(first.pid, cgroup.container_id)
    assert dirs is not None

    usage = full(reader, first.pid, cgroup)

    assert sorted(reader.pids(dirs)) == sorted([first.pid, second.pid])
    assert usage.tasks == 5
    assert usage.tasks_limit == 77
    assert reader.task_count(dirs) == 5
    if cgroup.version == 1:
        second.kill()
        second.wait()
        child.rmdir()


def test_a_process_moved_below_is_still_the_containers(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """An init system in the container moves to a cgroup of its own; the container's is the one above."""
    children = [directory / "init" for directory in cgroup.directories.values()]
    process = cgroup.run_python(IDLE)
    for child in children:
        child.mkdir()
        (child / "cgroup.procs").write_text(str(process.pid))

    dirs = reader.locate(process.pid, cgroup.container_id)

    assert dirs is not None
    assert {Path(path) for path in dirs.values()} == set(cgroup.directories.values())
    process.kill()
    process.wait()
    for child in children:
        until(partial(removed, child), "removal of the child cgroup")


def test_direct_writes_reach_the_device_counters(reader: CgroupReader, cgroup: HostCgroup, tmp_path: Path) -> None:
    """Bytes written with O_DIRECT are charged to the cgroup, where the file system is on a device that tells."""
    code = (
        "import os, mmap\n"
        f"fd = os.open({str(tmp_path / 'direct')!r}, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)\n"
        "os.write(fd, mmap.mmap(-1, 1 << 20)); os.fsync(fd); print('ready', flush=True); input()"
    )
    try:
        process = cgroup.run_python(code)
    except AssertionError:
        pytest.skip("the file system of the temporary directory does not offer O_DIRECT")
    devices = full(reader, process.pid, cgroup).devices
    if not devices:
        pytest.skip("the kernel does not account this device to cgroups")

    assert sum(device.write_bytes for device in devices) >= 1 << 20
    assert sum(device.writes for device in devices) >= 1


def test_a_vanished_cgroup_reads_as_none(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """Open files of a removed cgroup are noticed, and nothing raises."""
    process = cgroup.run_python(IDLE)
    dirs = reader.locate(process.pid, cgroup.container_id)
    assert dirs is not None
    probe = reader.probe(dirs)
    assert probe.basic() is not None
    assert probe.descriptors > 0

    cgroup.stop()

    assert probe.basic() is None
    assert reader.basic(dirs) is None
    assert reader.full(dirs) is None
    assert reader.task_count(dirs) is None
    assert reader.pids(dirs) == []
    assert reader.locate(process.pid, cgroup.container_id) is None


def test_the_pod_above_is_read_by_name(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """The pod's cgroup is the parent, when it has the name that kubelet gave."""
    process = cgroup.run_python(IDLE)
    dirs = reader.locate(process.pid, cgroup.container_id)
    assert dirs is not None

    pod = parent_of(dirs, f"/some/where/{cgroup.pod_name}")

    assert pod is not None
    assert reader.task_count(pod) == 1
    assert reader.basic(pod) is not None
    assert parent_of(dirs, "/kubepods/other") is None
    assert parent_of(dirs, "") is None


def test_a_probe_that_was_closed_opens_again(reader: CgroupReader, cgroup: HostCgroup) -> None:
    """Closing only gives descriptors back."""
    process = cgroup.run_python(IDLE)
    dirs = reader.locate(process.pid, cgroup.container_id)
    assert dirs is not None
    probe = reader.probe(dirs)
    probe.basic()
    probe.close()

    assert probe.descriptors == 0
    assert probe.basic() is not None


def test_unified_hierarchy_of_this_kernel(layout: CgroupLayout) -> None:
    """The v2 reader finds its way in a hierarchy without memory controller, and its pressure files parse."""
    if not layout.unified_root or layout.version == 2:
        pytest.skip("no second hierarchy beside v1 here")
    identity = f"{os.getpid():064x}"
    directory = Path(layout.unified_root) / identity
    directory.mkdir()
    unified = HostCgroup.__new__(HostCgroup)
    unified.directories, unified.version, unified.container_id, unified._processes = {"": directory}, 2, identity, []
    process = unified.run_python(IDLE)
    reader = CgroupV2(layout.unified_root)
    try:
        dirs = reader.locate(process.pid, identity)

        assert dirs == {"": str(directory)}
        assert reader.basic(dirs) is None
        assert reader.pids(dirs) == [process.pid]
        psi = pressure((directory / "cpu.pressure").read_bytes())
        assert psi is not None
        assert psi.full is not None
    finally:
        process.kill()
        process.communicate()
        until(partial(removed, directory), "removal")
