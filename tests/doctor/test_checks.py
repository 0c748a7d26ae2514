"""Checks on nodes that are made of files."""

from __future__ import annotations

import inspect
import re
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.core.recovery import Recovery
from cri_dockerd_py.core.undo import Undo
from cri_dockerd_py.doctor.cgroups import check_controllers, compare_drivers
from cri_dockerd_py.doctor.examine import CHECKS, examine
from cri_dockerd_py.doctor.finding import Finding, Level, Patient
from cri_dockerd_py.doctor.kernel import check_forwarding, check_kernel, check_rights
from cri_dockerd_py.doctor.leftovers import LOGGED, check_leftovers
from cri_dockerd_py.doctor.sockets import check_kubelet
from cri_dockerd_py.settings import Settings


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(Settings(root_dir=tmp_path / "service", state_dir=tmp_path / "state"), tmp_path)


def put(patient: Patient, path: str, text: str) -> None:
    file = patient.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def levels(findings: Iterable[Finding]) -> dict[str, Level]:
    return {finding.what: finding.level for finding in findings}


def bad(findings: Iterable[Finding]) -> list[str]:
    found = [finding for finding in findings if finding.level is not Level.OK]
    assert all(finding.why and finding.fix for finding in found)
    return [finding.what for finding in found]


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


def test_cgroupfs_beside_systemd(patient: Patient) -> None:
    (patient.root / "run/systemd/system").mkdir(parents=True)
    assert bad(compare_drivers(patient, {"Docker": "cgroupfs"})) == ["the cgroupfs driver beside systemd"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/var/lib/kubelet/config.yaml", 'containerRuntimeEndpoint: "unix:///run/other.sock"\n'),
        ("/var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=/run/other.sock"\n'),
    ],
)
def test_kubelet_looks_elsewhere(patient: Patient, path: str, text: str) -> None:
    assert list(check_kubelet(patient)) == []
    put(patient, path, text)
    assert bad(check_kubelet(patient)) == [
        "kubelet uses unix:///run/other.sock, this service serves at unix:///run/cri-dockerd-py.sock"
    ]
    put(patient, path, text.replace("/run/other.sock", "/run/cri-dockerd-py.sock"))
    assert bad(check_kubelet(patient)) == []


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


def test_every_check_runs_on_this_machine(patient: Patient) -> None:
    settings = replace(patient.settings, docker_endpoint=f"unix://{patient.root}/none.sock")
    areas = {finding.area for finding in examine(replace(settings, backend="docker"))}
    assert {"kernel", "cgroups", "engines", "network", "sockets", "disk", "records"} <= areas
    assert len(CHECKS) == len(set(CHECKS))
