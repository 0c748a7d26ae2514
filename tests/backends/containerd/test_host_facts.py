"""Facts of hosts: this one's, and those that a tree of files shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cri_dockerd_py.backends.containerd.host_facts import kernel_version, read_host_facts
from cri_dockerd_py.backends.containerd.oci.facts import RuntimeFeatures, SelinuxContexts
from cri_dockerd_py.backends.containerd.runtime_features import features_of, read_runtime_features

ALL_CAPABILITIES = (1 << 41) - 1


def host(root: Path, files: dict[str, str]) -> Path:
    """Make a tree of files."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


PROC = {
    "proc/sys/kernel/osrelease": "5.10.0-30-amd64\n",
    "proc/sys/kernel/hostname": "node-7\n",
    "proc/sys/kernel/cap_last_cap": "40\n",
    "proc/self/status": f"Name:\tx\nCapEff:\t{ALL_CAPABILITIES:016x}\nSeccomp:\t0\n",
    "proc/self/oom_score_adj": "-999\n",
    "proc/self/uid_map": "         0          0 4294967295\n",
    "proc/7/status": f"Name:\tx\nCapEff:\t{ALL_CAPABILITIES & ~(1 << 24):016x}\n",
    "proc/7/oom_score_adj": "5\n",
    "proc/7/uid_map": "0 100000 65536\n",
}


def test_this_host() -> None:
    facts = read_host_facts()
    assert facts.hostname == os.uname().nodename
    assert facts.kernel >= (4, 18)
    assert facts.seccomp
    assert facts.selinux is None
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    assert len(facts.capabilities) == int(own.split()[1], 16).bit_count()


def test_host_with_cgroup_v2(tmp_path: Path) -> None:
    facts = read_host_facts(
        root=host(
            tmp_path,
            {
                **PROC,
                "sys/fs/cgroup/cgroup.controllers": "cpu memory hugetlb\n",
                "sys/fs/cgroup/system.slice/x.service/memory.swap.max": "max\n",
                "proc/self/cgroup": "0::/system.slice/x.service\n",
                "proc/self/mountinfo": "30 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate,x\n",
                "sys/kernel/mm/hugepages/hugepages-2048kB/nr": "0",
                "sys/kernel/mm/hugepages/hugepages-1048576kB/nr": "0",
                "sys/kernel/mm/hugepages/hugepages-64kB/nr": "0",
                "run/systemd/system/x": "",
            },
        )
    )
    assert (facts.kernel, facts.hostname, facts.cgroup_version) == ((5, 10), "node-7", 2)
    assert facts.cgroup_mount_options == ("nsdelegate",)
    assert facts.hugepage_sizes == {"2MB", "1GB", "64KB"}
    assert facts.swap_accounting
    assert facts.systemd
    assert facts.seccomp
    assert not facts.in_user_namespace
    assert facts.least_oom_score_adj == -1000
    assert len(facts.capabilities) == 41
    assert {"CAP_SYS_RESOURCE", "CAP_CHECKPOINT_RESTORE"} <= facts.capabilities


def test_engine_with_fewer_rights_on_cgroup_v1(tmp_path: Path) -> None:
    facts = read_host_facts(7, root=host(tmp_path, {**PROC, "sys/fs/cgroup/memory/memory.limit_in_bytes": "1"}))
    assert facts.cgroup_version == 1
    assert not facts.swap_accounting
    assert not facts.hugepage_sizes
    assert not facts.systemd
    assert facts.in_user_namespace
    assert facts.least_oom_score_adj == 5
    assert "CAP_SYS_RESOURCE" not in facts.capabilities


@pytest.mark.parametrize(("path", "counts"), [("/a.slice", False), ("/", True), ("/with", True)])
def test_swap_on_cgroup_v2(tmp_path: Path, path: str, counts: bool) -> None:
    files = {
        **PROC,
        "sys/fs/cgroup/cgroup.controllers": "memory",
        "sys/fs/cgroup/with/memory.swap.max": "max",
        "proc/self/cgroup": f"1:name=systemd:/x\n0::{path}\n",
    }
    assert read_host_facts(root=host(tmp_path, files)).swap_accounting is counts


@pytest.mark.parametrize(
    ("enabled", "parser", "usable"), [("Y\n", True, True), ("N\n", True, False), ("Y\n", False, False)]
)
def test_apparmor(tmp_path: Path, enabled: str, parser: bool, usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("container", raising=False)
    files = {
        **PROC,
        "sys/kernel/security/apparmor/profiles": "",
        "sys/module/apparmor/parameters/enabled": enabled,
        **({"sbin/apparmor_parser": ""} if parser else {}),
    }
    assert read_host_facts(root=host(tmp_path, files)).apparmor is usable
    monkeypatch.setenv("container", "lxc")
    assert not read_host_facts(root=tmp_path).apparmor


def test_selinux(tmp_path: Path) -> None:
    contexts = 'process = "system_u:system_r:my_t:s0"\nfile = "system_u:object_r:my_file_t:s0"\n'
    files = {
        **PROC,
        "sys/fs/selinux/enforce": "1",
        "etc/selinux/config": "# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE=mine\n",
        "etc/selinux/mine/contexts/lxc_contexts": contexts,
    }
    host(tmp_path, files)
    assert read_host_facts(root=tmp_path).selinux is None
    found = read_host_facts(root=tmp_path, selinux=True).selinux
    assert found == SelinuxContexts("system_u:system_r:my_t:s0", "system_u:object_r:my_file_t:s0")
    (tmp_path / "sys/fs/selinux/enforce").unlink()
    assert read_host_facts(root=tmp_path, selinux=True).selinux is None


@pytest.mark.parametrize(
    ("release", "version"), [("6.18.44-fc", (6, 18)), ("5.10.0", (5, 10)), ("4.4", (4, 4)), ("x", (0, 0)), ("", (0, 0))]
)
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


# --- runtimes

RUNC = "runc version 1.1.5+ds1\ncommit: x\n"
IDMAP = {"linux": {"mountExtensions": {"idmap": {"enabled": True}}}}


@pytest.mark.parametrize(
    ("version", "document", "kernel", "expected"),
    [
        (RUNC, {"mountOptions": ["ro", "rro"]}, (6, 1), (True, False, False)),
        (RUNC, {"mountOptions": ["ro", "rro"]}, (5, 11), (False, False, False)),
        (RUNC, {"mountOptions": ["ro"]}, (6, 1), (False, False, False)),
        (RUNC, {"mountOptions": ["rro"], **IDMAP}, (6, 1), (True, True, True)),
        (RUNC, {"mountOptions": ["rro"], **IDMAP}, (5, 12), (True, True, False)),
        (RUNC, None, (6, 1), (True, False, False)),
        ("runc version 1.0.3", None, (6, 1), (False, False, False)),
        ("crun version 1.8.1\n", None, (6, 1), (True, False, False)),
        ("crun version 1.3", None, (6, 1), (False, False, False)),
        ("other version 9.9", None, (6, 1), (False, False, False)),
        ("", None, (6, 1), (False, False, False)),
        ("", {"mountOptions": None, "linux": []}, (6, 1), (False, False, False)),
    ],
)
def test_features(version: str, document: object, kernel: tuple[int, int], expected: tuple[bool, bool, bool]) -> None:
    features = features_of(version, document, kernel)
    assert (features.recursive_read_only, features.idmapped_mounts, features.user_namespaces) == expected


async def test_features_of_real_runtimes(tmp_path: Path) -> None:
    assert (await read_runtime_features("runc", (6, 1))).version.startswith("runc version ")
    assert (await read_runtime_features("crun", (6, 1))).recursive_read_only
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    for binary in (str(broken), str(tmp_path / "missing"), str(tmp_path)):
        assert await read_runtime_features(binary, (6, 1)) == RuntimeFeatures()
