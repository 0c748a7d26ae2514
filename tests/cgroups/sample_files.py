"""Files of a cgroup in the form that the kernel documents, to be laid out in plain directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CONTAINER_ID = "c0ffee" + "0" * 58

V2_FILES = {
    "cpu.stat": (
        "usage_usec 8123456\nuser_usec 6000000\nsystem_usec 2123456\nnice_usec 0\ncore_sched.force_idle_usec 0\n"
        "nr_periods 120\nnr_throttled 45\nthrottled_usec 3210000\nnr_bursts 0\nburst_usec 0\n"
    ),
    "memory.current": "52428800\n",
    "memory.peak": "62914560\n",
    "memory.max": "134217728\n",
    "memory.low": "16777216\n",
    "memory.swap.current": "1048576\n",
    "memory.swap.max": "4194304\n",
    "memory.events": "low 0\nhigh 0\nmax 17\noom 3\noom_kill 2\noom_group_kill 0\n",
    "memory.stat": (
        "anon 20971520\nfile 25165824\nkernel 3145728\nkernel_stack 147456\npagetables 524288\nsec_pagetables 0\n"
        "percpu 2304\nsock 4096\nvmalloc 0\nshmem 0\nzswap 0\nzswapped 0\nfile_mapped 8388608\nfile_dirty 0\n"
        "file_writeback 0\nswapcached 0\nanon_thp 0\nfile_thp 0\nshmem_thp 0\ninactive_anon 20000000\n"
        "active_anon 971520\ninactive_file 15728640\nactive_file 9437184\nunevictable 0\nslab_reclaimable 1200000\n"
        "slab_unreclaimable 800000\nslab 2000000\nworkingset_refault_anon 0\nworkingset_refault_file 12\n"
        "pgscan 0\npgsteal 0\npgfault 34567\npgmajfault 89\npgrefill 0\npgactivate 10\npgdeactivate 0\n"
    ),
    "pids.current": "9\n",
    "pids.max": "100\n",
    "io.stat": "259:0 rbytes=1048576 wbytes=2097152 rios=20 wios=30 dbytes=0 dios=0\n",
    "cpu.pressure": (
        "some avg10=1.50 avg60=0.75 avg300=0.20 total=5000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n"
    ),
    "memory.pressure": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=40\n"
    ),
    "io.pressure": (
        "some avg10=9.99 avg60=3.00 avg300=1.00 total=2500000\nfull avg10=8.00 avg60=2.00 avg300=0.50 total=2000000\n"
    ),
    "hugetlb.2MB.current": "4194304\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.rsvd.current": "0\n",
    "cgroup.procs": "4242\n",
}

V1_FILES = {
    "cpu/cpu.stat": "nr_periods 50\nnr_throttled 20\nthrottled_time 1500000000\n",
    "cpuacct/cpuacct.usage": "7000000000\n",
    "cpuacct/cpuacct.stat": "user 500\nsystem 200\n",
    "memory/memory.usage_in_bytes": "50000000\n",
    "memory/memory.max_usage_in_bytes": "60000000\n",
    "memory/memory.limit_in_bytes": "104857600\n",
    "memory/memory.memsw.limit_in_bytes": "125829120\n",
    "memory/memory.soft_limit_in_bytes": "9223372036854771712\n",
    "memory/memory.failcnt": "7\n",
    "memory/memory.memsw.failcnt": "4\n",
    "memory/memory.kmem.usage_in_bytes": "2000000\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "memory/memory.stat": (
        "cache 1\nrss 2\nmapped_file 3\nswap 4\npgfault 5\npgmajfault 6\ninactive_file 7\nactive_file 8\n"
        "hierarchical_memory_limit 104857600\nhierarchical_memsw_limit 125829120\n"
        "total_cache 20000000\ntotal_rss 25000000\ntotal_mapped_file 3000000\ntotal_swap 5000000\n"
        "total_pgfault 1000\ntotal_pgmajfault 10\ntotal_inactive_file 12000000\ntotal_active_file 8000000\n"
    ),
    "memory/cgroup.procs": "4242\n",
    "pids/pids.current": "5\n",
    "pids/pids.max": "max\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "Total 0\n",
    "blkio/blkio.throttle.io_serviced_recursive": "Total 0\n",
    "blkio/blkio.bfq.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288\n",
    "blkio/blkio.bfq.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n",
    "hugetlb/hugetlb.2MB.usage_in_bytes": "2097152\n",
    "hugetlb/hugetlb.2MB.max_usage_in_bytes": "6291456\n",
    "hugetlb/hugetlb.2MB.rsvd.max_usage_in_bytes": "0\n",
}


def lay_out(directory: Path, files: Mapping[str, str]) -> None:
    """Write the files."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def lay_out_v2(root: Path, path: str = f"pods/pod1/{CONTAINER_ID}") -> Path:
    """Make a v2 hierarchy with one container's cgroup; return the cgroup's directory."""
    lay_out(root, {"cgroup.controllers": "cpu io memory pids hugetlb\n"})
    lay_out(root / path, V2_FILES)
    return root / path


def lay_out_v1(root: Path, path: str = f"pods/pod1/{CONTAINER_ID}") -> None:
    """Make v1 hierarchies with one container's cgroup in each."""
    for name, text in V1_FILES.items():
        controller, _, file = name.partition("/")
        lay_out(root / controller / path, {file: text})


def lay_out_process(proc_root: Path, pid: int, cgroup_lines: str) -> None:
    """Make a process that is in the given cgroups."""
    lay_out(proc_root / str(pid), {"cgroup": cgroup_lines})
