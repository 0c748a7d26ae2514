"""Checks on nodes that are made of files."""

from __future__ import annotations

import inspect
import re
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.backends.containerd.daemon_state import DaemonFacts
from cri_dockerd_py.backends.containerd.host_facts import read_host_facts
from cri_dockerd_py.core.recovery import Recovery
from cri_dockerd_py.core.undo import Undo
from cri_dockerd_py.doctor.cgroups import check_controllers, compare_drivers
from cri_dockerd_py.doctor.engines import check_containerd, check_docker
from cri_dockerd_py.doctor.examine import CHECKS, examine
from cri_dockerd_py.doctor.finding import Level, Patient
from cri_dockerd_py.doctor.kernel import check_forwarding, check_kernel, check_rights
from cri_dockerd_py.doctor.leftovers import LOGGED, check_leftovers
from cri_dockerd_py.doctor.sockets import check_kubelet
from cri_dockerd_py.model.node import CgroupDriver, EngineInfo
from cri_dockerd_py.settings import Settings
from tests.doctor.patients import bad, put


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(Settings(root_dir=tmp_path / "service", state_dir=tmp_path / "state"), tmp_path)


def test_a_good_kernel(patient: Patient) -> None:
    put(patient, "/proc/sys/kernel/osrelease", "6.1.0-50-cloud-amd64\n")
    put(patient, "/proc/filesystems", "nodev\toverlay\n\text4\n")
    put(patient, "/proc/self/status", "Name:\tx\nSeccomp:\t0\nCapEff:\t000001ffffffffff\n")
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts"):
        put(patient, f"/proc/self/ns/{name}", "")
    assert bad([*check_kernel(patient), *check_rights(patient)]) == []


def test_a_bad_kernel(patient: Patient) -> None:
    put(patient, "/proc/sys/kernel/osrelease", "3.10.0-1160.el7\n")
    put(patient, "/proc/self/status", "CapEff:\t00000000a80425fb\n")
    assert bad([*check_kernel(patient), *check_rights(patient)]) == [
        "Linux 3.10.0-1160.el7 is older than 4.19",
        "no cgroup, ipc, mnt, net, pid, uts namespaces",
        "overlayfs is not loaded",
        "no seccomp",
        "no CAP_SYS_ADMIN",
        "no CAP_SYS_RESOURCE",
    ]


def test_forwarding(patient: Patient) -> None:
    assert bad(check_forwarding(patient)) == ["IPv4 forwarding is off", "bridge-nf-call-iptables is not loaded"]
    put(patient, "/proc/sys/net/ipv4/ip_forward", "1\n")
    put(patient, "/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
    assert bad(check_forwarding(patient)) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
        (
            "/proc/cgroups",
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t9\t1\nmemory\t3\t9\t1\npids\t4\t9\t1\n",
        ),
    ],
)
def test_controllers(patient: Patient, path: str, text: str) -> None:
    put(patient, path, text)
    assert bad(check_controllers(patient)) == []
    put(patient, path, text.replace("memory\t3\t9\t1", "memory\t3\t9\t0").replace(" memory", ""))
    assert bad(check_controllers(patient)) == ["no memory controller"]


def test_drivers_must_agree(patient: Patient) -> None:
    put(patient, "/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\ncgroupDriver: systemd\n")
    assert bad(compare_drivers(patient, {"Docker": "systemd", "containerd": "systemd"})) == []
    assert bad(compare_drivers(patient, {"Docker": "cgroupfs"})) == [
        "different cgroup drivers: Docker cgroupfs, kubelet systemd"
    ]


def test_an_old_docker_without_limits(patient: Patient) -> None:
    put(patient, "/etc/os-release", "ID=debian\n")
    put(patient, "/var/lib/dpkg/info/docker.io.list", "")
    put(patient, "/etc/default/grub", "")
    warnings = [
        "No swap limit support",
        "No pids limit support",
        "No kernel memory TCP limit support",
        "No blkio weight",
    ]
    found = list(check_docker(patient, {"ServerVersion": "19.03.15", "Warnings": warnings}, needed=True))
    assert bad(found) == [
        "Docker Engine 19.03.15",
        "Docker's live-restore is off",
        "Docker says: No swap limit support",
        "Docker says: No pids limit support",
    ]
    assert "--only-upgrade docker.io " in found[0].fix
    assert "swapaccount=1" in found[2].fix
    assert "CGROUP_PIDS" in found[3].fix


def test_silent_engines(patient: Patient) -> None:
    silent = [*check_docker(patient, None, needed=True), *check_containerd(patient, None, needed=True)]
    assert [what.partition(" at ")[0] for what in bad(silent)] == [
        "Docker Engine does not answer",
        "containerd does not answer",
    ]
    assert [*check_docker(patient, None, needed=False), *check_containerd(patient, None, needed=False)] == []


def test_a_containerd_whose_plugin_works_beside_us(patient: Patient) -> None:
    facts = DaemonFacts("1.7.24", read_host_facts(0), plugin_is_enabled=True)
    info = EngineInfo("containerd", "1.7.24", "v1", CgroupDriver.SYSTEMD, 2, "/var/lib/containerd", ())
    assert bad(check_containerd(patient, (facts, info), needed=True)) == [
        "containerd's own CRI plugin is enabled beside this service"
    ]


def test_cgroupfs_beside_systemd(patient: Patient) -> None:
    (patient.root / "run/systemd/system").mkdir(parents=True)
    assert bad(compare_drivers(patient, {"Docker": "cgroupfs"})) == ["the cgroupfs driver beside systemd"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/var/lib/kubelet/config.yaml", 'containerRuntimeEndpoint: "unix:///run/other.sock"\n'),
        ("/var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=/run/other.sock"\n'),
        ("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=--container-runtime-endpoint unix:/run/other.sock\n"),
        ("/etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS='--v=1 --container-runtime-endpoint=unix:///run/other.sock'\n"),
    ],
)
def test_kubelet_looks_elsewhere(patient: Patient, path: str, text: str) -> None:
    assert list(check_kubelet(patient)) == []
    put(patient, path, text)
    (what,) = bad(check_kubelet(patient))
    assert what.endswith(f"run/other.sock ({path}), this service serves at unix:///run/cri-dockerd-py.sock")
    put(patient, path, text.replace("/run/other.sock", "/run/cri-dockerd-py.sock"))
    assert bad(check_kubelet(patient)) == []


def test_what_counts_of_what_kubelet_is_told(patient: Patient) -> None:
    flag = "--container-runtime-endpoint=unix:///run/{}.sock"
    put(patient, "/var/lib/kubelet/config.yaml", 'containerRuntimeEndpoint: ""\ncgroupDriver: systemd\n')
    assert list(check_kubelet(patient)) == []
    put(patient, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/file.sock\n")
    assert "file.sock" in bad(check_kubelet(patient))[0]
    put(patient, "/var/lib/kubelet/kubeadm-flags.env", f'A="{flag.format("first")} {flag.format("kubeadm")} --v=1"\n')
    assert "kubeadm.sock" in bad(check_kubelet(patient))[0]
    put(patient, "/etc/default/kubelet", f"# {flag.format('comment')}\nKUBELET_EXTRA_ARGS=\n")
    assert "kubeadm.sock" in bad(check_kubelet(patient))[0]
    put(patient, "/etc/default/kubelet", f"KUBELET_EXTRA_ARGS={flag.format('extra')}\n")
    assert "extra.sock" in bad(check_kubelet(patient))[0]


def test_a_socket_has_several_names(patient: Patient) -> None:
    (patient.root / "run").mkdir()
    (patient.root / "var").mkdir()
    (patient.root / "var/run").symlink_to("/run")
    put(patient, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///var/run//cri-dockerd-py.sock\n")
    assert bad(check_kubelet(patient)) == []
    behind = Patient(replace(patient.settings, container_runtime_endpoint="fd://"), patient.root)
    assert bad(check_kubelet(behind)) == []


def test_paths_are_followed_on_the_node(patient: Patient) -> None:
    (patient.root / "a/b").mkdir(parents=True)
    (patient.root / "a/up").symlink_to("../a/b")
    (patient.root / "a/b/circle").symlink_to("circle")
    assert patient.real("/a/up/../x/../y") == "/a/y"
    assert patient.real("/../a//up/none") == "/a/b/none"
    assert patient.real("/a/b/circle").endswith("circle")


def with_database(patient: Patient) -> sqlite3.Connection:
    patient.settings.root_dir.mkdir()
    database = sqlite3.connect(patient.settings.root_dir / "state.db", isolation_level=None, check_same_thread=False)
    database.execute("CREATE TABLE intents (id INTEGER PRIMARY KEY, kind TEXT)")
    database.execute("CREATE TABLE attachments (sandbox_id TEXT)")
    return database


def test_intents_that_stay_are_leftovers(patient: Patient) -> None:
    assert bad(check_leftovers(patient)) == []
    database = with_database(patient)
    assert bad(check_leftovers(patient)) == []
    database.execute("INSERT INTO intents VALUES (1, 'run_sandbox')")
    assert bad(check_leftovers(patient, within_s=0.1)) == [
        "1 operations were neither done nor undone in 0 seconds (run_sandbox)"
    ]


def test_what_is_being_made_is_no_leftover(patient: Patient) -> None:
    database = with_database(patient)
    database.execute("INSERT INTO intents VALUES (1, 'run_sandbox')")

    def go_on() -> None:
        database.execute("INSERT INTO intents VALUES (2, 'create_container')")
        database.execute("DELETE FROM intents WHERE id=1")

    timer = threading.Timer(0.5, go_on)
    timer.start()
    assert bad(check_leftovers(patient, within_s=60)) == []
    timer.join()


async def test_the_mend_finds_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise OSError("it does not want to go")

    undo = Undo(within_s=5)
    undo.push("the sandbox", fail)
    assert not await undo.run()
    assert re.search(LOGGED, caplog.text)
    assert re.search(LOGGED, inspect.getsource(Recovery._take_back_unfinished))


def test_a_damaged_database(patient: Patient) -> None:
    patient.settings.root_dir.mkdir()
    (patient.settings.root_dir / "state.db").write_bytes(b"not a database" * 100)
    (found,) = check_leftovers(patient)
    assert found.level is Level.FAILURE
    assert bad([found])


def test_every_check_runs_on_this_machine(patient: Patient) -> None:
    settings = replace(patient.settings, docker_endpoint=f"unix://{patient.root}/none.sock")
    findings = examine(replace(settings, backend="docker"))
    bad(findings)
    areas = {finding.area for finding in findings}
    assert {"kernel", "cgroups", "engines", "network", "sockets", "disk", "records"} <= areas
    assert len(CHECKS) == len(set(CHECKS))
