"""What the daemon may give to containers, and what the kernel's log tells of OOM kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from cri_dockerd_py.backends.docker.marks import Marks
from cri_dockerd_py.backends.docker.oom_watch import OomWatch
from cri_dockerd_py.backends.rights import EngineRights, engine_rights

ONE, OTHER = "ab" * 32, "cd" * 32
ALL_CAPABILITIES = (1 << 41) - 1


def _proc(root: Path, effective: int, score: int) -> Path:
    (root / "7").mkdir()
    (root / "7/status").write_text(f"Name:\tdockerd\nCapEff:\t{effective:016x}\n")
    (root / "7/oom_score_adj").write_text(f"{score}\n")
    (root / "sys/kernel").mkdir(parents=True)
    (root / "sys/kernel/cap_last_cap").write_text("40\n")
    return root


def test_daemon_with_all_rights(tmp_path: Path) -> None:
    assert engine_rights(7, proc=_proc(tmp_path, ALL_CAPABILITIES, -500)) == EngineRights(-1000, None)


@pytest.mark.parametrize(("score", "least"), [(-500, 0), (0, 0), (300, 300)])
def test_daemon_without_sys_resource(tmp_path: Path, score: int, least: int) -> None:
    rights = engine_rights(7, proc=_proc(tmp_path, ALL_CAPABILITIES & ~(1 << 24), score))
    assert rights.least_oom_score_adj == least
    assert rights.capabilities is not None
    assert len(rights.capabilities) == 40
    assert {"CHOWN", "CHECKPOINT_RESTORE"} <= rights.capabilities
    assert "SYS_RESOURCE" not in rights.capabilities


def test_daemon_that_cannot_be_looked_at(tmp_path: Path) -> None:
    assert engine_rights(8, proc=tmp_path) == EngineRights()


def test_oom_kills_in_the_kernels_log(tmp_path: Path) -> None:
    marks = Marks()
    watch = OomWatch(marks, proc=tmp_path)
    watch.take(
        f"6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/docker/{ONE},"
        f"task_memcg=/docker/{ONE},task=dd,pid=5,uid=0\n".encode()
    )
    assert list(marks.ooms) == [ONE]
    watch.take(b"3,1,3,-;Memory cgroup out of memory: Killed process 5 (dd) total-vm:1kB\n")
    assert not marks.claim_oom(OTHER, 0, 1 << 62)
    (tmp_path / "6").mkdir()
    (tmp_path / "6/cgroup").write_text(f"4:memory:/kubepods/pod1/{OTHER}\n")
    watch.take(b"3,1,4,-;Memory cgroup out of memory: Killed process 6 (sh) total-vm:1kB\n")
    assert list(marks.ooms) == [ONE, OTHER]


@pytest.mark.parametrize("left", [None, "4:memory:/\n"])
def test_a_kill_whose_victim_was_gone_explains_one_death(tmp_path: Path, left: str | None) -> None:
    marks = Marks()
    if left is not None:
        (tmp_path / "6").mkdir()
        (tmp_path / "6/cgroup").write_text(left)
    OomWatch(marks, proc=tmp_path).take(b"3,1,4,-;Memory cgroup out of memory: Killed process 6 (sh) total-vm:1kB\n")
    assert not marks.claim_oom(ONE, 0, 1)
    assert marks.claim_oom(ONE, 0, 1 << 62)
    assert not marks.claim_oom(OTHER, 0, 1 << 62)
    assert list(marks.ooms) == [ONE]


async def test_kernel_log_that_cannot_be_read(tmp_path: Path) -> None:
    watch = OomWatch(Marks(), tmp_path / "none")
    watch.start()
    watch.close()
    watch.close()
