"""Mends, run on the files of a node."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from cri_dockerd_py.doctor.cgroups import check_controllers, compare_drivers, enable_controllers
from cri_dockerd_py.doctor.clock import synchronise
from cri_dockerd_py.doctor.cni import check_cni
from cri_dockerd_py.doctor.disk import check_room, make_room
from cri_dockerd_py.doctor.engines import switch_plugin_off
from cri_dockerd_py.doctor.finding import Finding, Level, Patient
from cri_dockerd_py.doctor.kernel import check_forwarding, check_kernel
from cri_dockerd_py.doctor.mends import install, set_in_docker, upgrade
from cri_dockerd_py.doctor.sockets import check_kubelet
from cri_dockerd_py.settings import Settings
from tests.doctor.patients import bad, is_command, mend, put

OURS = "unix:///run/cri-dockerd-py.sock"
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\n"
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'
LEAP = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n'


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(Settings(root_dir=tmp_path / "service", state_dir=tmp_path / "state"), tmp_path)


def text(patient: Patient, path: str) -> str:
    return (patient.root / path.lstrip("/")).read_text()


def fixes(findings: Iterable[Finding]) -> list[str]:
    return [finding.fix for finding in findings if finding.level is not Level.OK]


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (
            "/var/lib/kubelet/kubeadm-flags.env",
            'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/other.sock --v=1"\n',
            f'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint={OURS} --v=1"\n',
        ),
        (
            "/etc/default/kubelet",
            "KUBELET_EXTRA_ARGS=--container-runtime-endpoint /run/other.sock\n",
            f"KUBELET_EXTRA_ARGS=--container-runtime-endpoint {OURS}\n",
        ),
        (
            "/var/lib/kubelet/config.yaml",
            'cgroupDriver: systemd\ncontainerRuntimeEndpoint: "unix:///run/other.sock"\n',
            f"cgroupDriver: systemd\ncontainerRuntimeEndpoint: {OURS}\n",
        ),
    ],
)
def test_kubelet_is_pointed_at_us_where_it_was_pointed_elsewhere(
    patient: Patient, path: str, before: str, after: str
) -> None:
    put(patient, "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/not-used.sock\n")
    put(patient, path, before)
    (fix,) = fixes(check_kubelet(patient))
    assert mend(patient, fix) == ["systemctl restart kubelet"]
    assert text(patient, path) == after
    assert bad(check_kubelet(patient)) == []


def test_everybody_is_given_one_driver_while_the_node_is_drained(patient: Patient) -> None:
    (patient.root / "run/systemd/system").mkdir(parents=True)
    put(patient, "/var/lib/kubelet/config.yaml", "cgroupDriver: systemd\n")
    put(patient, "/var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--cgroup-driver=cgroupfs --v=1"\n')
    put(patient, "/etc/docker/daemon.json", '{"exec-opts": ["native.cgroupdriver=cgroupfs", "a=b"], "debug": true}')
    put(patient, "/etc/cri-dockerd-py/config.toml", 'cgroup_driver = "cgroupfs"\n[containerd_runtimes.crun]\n')
    found = list(compare_drivers(patient, {"Docker": "cgroupfs", "containerd": "cgroupfs"}))
    assert bad(found) == ["the cgroupfs driver beside systemd"]

    calls = mend(patient, fixes(found)[0])

    assert [call for call in calls if call.startswith("systemctl")] == [
        "systemctl stop kubelet",
        "systemctl restart docker",
        "systemctl restart cri-dockerd-py",
        "systemctl start kubelet",
    ]
    assert calls[0].startswith("kubectl drain ")
    assert calls[-1].startswith("kubectl uncordon ")
    assert json.loads(text(patient, "/etc/docker/daemon.json")) == {
        "exec-opts": ["a=b", "native.cgroupdriver=systemd"],
        "debug": True,
    }
    assert tomllib.loads(text(patient, "/etc/cri-dockerd-py/config.toml")) == {
        "cgroup_driver": "systemd",
        "containerd_runtimes": {"crun": {}},
    }
    assert bad(compare_drivers(patient, {"Docker": "systemd", "containerd": "systemd"})) == []


def test_only_who_differs_is_changed(patient: Patient) -> None:
    (patient.root / "run/systemd/system").mkdir(parents=True)
    put(patient, "/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\ncgroupDriver: cgroupfs\n")
    (fix,) = fixes(compare_drivers(patient, {"Docker": "systemd", "containerd": "systemd"}))
    calls = mend(patient, fix)
    assert [call for call in calls if call.startswith("systemctl")] == [
        "systemctl stop kubelet",
        "systemctl start kubelet",
    ]
    assert text(patient, "/var/lib/kubelet/config.yaml") == "kind: KubeletConfiguration\ncgroupDriver: systemd\n"


def test_docker_is_configured_where_it_has_no_file(patient: Patient) -> None:
    (patient.root / "etc").mkdir()
    mend(patient, set_in_docker('d["live-restore"] = True'))
    assert json.loads(text(patient, "/etc/docker/daemon.json")) == {"live-restore": True}


@pytest.mark.parametrize(
    ("version", "before", "after"),
    [
        ("1.6.20", "", ["io.containerd.grpc.v1.cri"]),
        ("1.7.24", "oom_score = 0\n", ["cri"]),
        ("1.7.24", 'version = 2\ndisabled_plugins = [ "x" ]\n', ["io.containerd.grpc.v1.cri", "x"]),
        (
            "2.1.4",
            "version = 3\n[plugins]\n",
            ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"],
        ),
        (
            "2.1.4",
            "version = 2\ndisabled_plugins = []\n",
            ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"],
        ),
    ],
)
def test_the_plugin_of_containerd_is_switched_off(
    patient: Patient, version: str, before: str, after: list[str]
) -> None:
    (patient.root / "etc").mkdir()
    if before:
        put(patient, "/etc/containerd/config.toml", before)
    mend(patient, switch_plugin_off(patient, version))
    assert tomllib.loads(text(patient, "/etc/containerd/config.toml"))["disabled_plugins"] == after


def test_containerd_2_converts_an_old_configuration_first(patient: Patient) -> None:
    put(patient, "/etc/containerd/config.toml", 'disabled_plugins = ["cri"]\n')
    fix = switch_plugin_off(patient, "2.0.5")
    assert fix.startswith("containerd config migrate > /etc/containerd/config.toml.new && mv ")


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("/boot/firmware/cmdline.txt", "root=/dev/sda1 quiet\n", "root=/dev/sda1 quiet cgroup_enable=memory\n"),
        ("/boot/cmdline.txt", "quiet cgroup_disable=memory\n", "quiet \n"),
        ("/etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet cgroup_disable=memory"\n', 'GRUB_CMDLINE_LINUX="quiet "\n'),
        ("/etc/default/grub.d/cloud.cfg", 'GRUB_CMDLINE_LINUX="cgroup_disable=memory"\n', 'GRUB_CMDLINE_LINUX=""\n'),
    ],
)
def test_a_controller_is_enabled_where_the_node_boots_from(
    patient: Patient, file: str, before: str, after: str
) -> None:
    put(patient, "/sys/fs/cgroup/cgroup.controllers", "cpu pids\n")
    put(patient, "/proc/cmdline", "BOOT_IMAGE=/vmlinuz cgroup_disable=memory\n")
    put(patient, "/etc/default/grub", "")
    put(patient, file, before)
    (fix,) = fixes(check_controllers(patient))
    calls = mend(patient, fix)
    assert text(patient, file) == after
    assert calls == [*(["update-grub"] if "grub" in file else []), "systemctl reboot"]


def test_a_memory_controller_that_is_off_by_default(patient: Patient) -> None:
    put(patient, "/proc/cmdline", "quiet\n")
    assert enable_controllers(patient, ["memory"]).startswith("# add cgroup_enable=memory ")
    put(patient, "/etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet"\n')
    assert mend(patient, enable_controllers(patient, ["memory"])) == ["update-grub", "systemctl reboot"]
    own = "/etc/default/grub.d/cri-dockerd-py.cfg"
    assert text(patient, own) == 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX cgroup_enable=memory"\n'
    assert text(patient, "/etc/default/grub") == 'GRUB_CMDLINE_LINUX="quiet"\n'
    mend(patient, enable_controllers(patient, ["swap"]))
    assert "cgroup_enable=memory swapaccount=1" in text(patient, own)


def test_controllers_where_grubby_writes_the_command_line(patient: Patient) -> None:
    put(patient, "/usr/sbin/grubby", "")
    assert mend(patient, enable_controllers(patient, ["memory"]))[0] == (
        "grubby --update-kernel=ALL --args=cgroup_enable=memory"
    )
    put(patient, "/proc/cmdline", "quiet cgroup_disable=memory,pids\n")
    assert mend(patient, enable_controllers(patient, ["pids"]))[0] == (
        "grubby --update-kernel=ALL --remove-args=cgroup_disable=memory,pids"
    )


def test_a_controller_that_the_kernel_has_not(patient: Patient) -> None:
    fix = enable_controllers(patient, ["pids"])
    assert is_command(fix)
    assert fix.startswith('grep -E "CONFIG_(CGROUP_PIDS)[ =]" ')
    put(patient, "/proc/cmdline", "cgroup_disable=pids\n")
    assert enable_controllers(patient, ["pids"]).startswith("# remove cgroup_disable=pids ")


def test_what_is_set_in_the_kernel_lasts_in_files_of_our_own(patient: Patient) -> None:
    for directory in ("etc/sysctl.d", "etc/modules-load.d"):
        (patient.root / directory).mkdir(parents=True)
    findings = [*check_kernel(patient), *check_forwarding(patient)]
    loading = [fix for fix in fixes(findings) if fix.startswith(("modprobe", "echo"))]
    calls = [call for fix in loading for call in mend(patient, fix)]
    assert calls == [
        "modprobe overlay",
        "sysctl -p /etc/sysctl.d/99-cri-dockerd-py-forwarding.conf",
        "modprobe br_netfilter",
        "sysctl -p /etc/sysctl.d/99-cri-dockerd-py-bridge.conf",
    ]
    files = {path.name: path.read_text() for path in (patient.root / "etc").glob("*/*")}
    assert files == {
        "99-cri-dockerd-py-forwarding.conf": "net.ipv4.ip_forward=1\n",
        "99-cri-dockerd-py-bridge.conf": "net.bridge.bridge-nf-call-iptables=1\n",
        "cri-dockerd-py-overlay.conf": "overlay\n",
        "cri-dockerd-py-br_netfilter.conf": "br_netfilter\n",
    }


@pytest.mark.parametrize(
    ("release", "installing", "upgrading"),
    [
        (DEBIAN, "apt-get install -y", "apt-get update && apt-get install -y --only-upgrade"),
        (UBUNTU, "apt-get install -y", "apt-get update && apt-get install -y --only-upgrade"),
        (ROCKY, "dnf install -y", "dnf upgrade -y"),
        (LEAP, "zypper install -y", "zypper update -y"),
    ],
)
def test_packages_are_installed_as_on_the_distribution(
    patient: Patient, release: str, installing: str, upgrading: str
) -> None:
    assert install(patient, "iptables") == "# install iptables with this distribution's package manager"
    put(patient, "/etc/os-release", release)
    assert install(patient, "iptables") == f"{installing} iptables"
    assert upgrade(patient, "kernel") == f"{upgrading} kernel"


def test_the_clock_is_kept_by_what_the_node_has(patient: Patient) -> None:
    put(patient, "/etc/os-release", DEBIAN)
    assert synchronise(patient) == "apt-get install -y chrony && systemctl enable --now chrony"
    put(patient, "/etc/os-release", ROCKY)
    assert synchronise(patient) == "dnf install -y chrony && systemctl enable --now chronyd"
    put(patient, "/usr/lib/systemd/system/systemd-timesyncd.service", "")
    assert mend(patient, synchronise(patient).partition(" && ")[0]) == ["systemctl enable --now systemd-timesyncd"]


def test_a_node_without_a_network(patient: Patient) -> None:
    put(patient, "/etc/os-release", ROCKY)
    nowhere = Patient(
        Settings(root_dir=patient.root, state_dir=patient.root / "state", cni_conf_dir=patient.root / "none"),
        patient.root,
    )
    (fix,) = fixes(check_cni(nowhere))
    linked = "mkdir -p /opt/cni/bin && ln -sf /usr/libexec/cni/* /opt/cni/bin/"
    assert fix.startswith(f"dnf install -y containernetworking-plugins && {linked}  # ")
    assert is_command(fix)


def test_room_is_made_where_it_is_short(patient: Patient) -> None:
    roots = ("/srv/docker", "/var/lib/containerd")
    prune = f"crictl --runtime-endpoint {OURS} rmi --prune"
    assert mend(patient, make_room(patient, ["/srv/docker"], roots)) == [prune]
    put(patient, "/var/log/pods/a_b_1/c/0.log", "kept")
    put(patient, "/var/log/pods/a_b_1/c/0.log.20260101-000000", "")
    assert mend(patient, make_room(patient, ["/var/log/pods"], roots)) == []
    assert [path.name for path in (patient.root / "var/log/pods/a_b_1/c").iterdir()] == ["0.log"]
    assert mend(patient, make_room(patient, ["/var/lib/containerd", "/var/log/pods"], roots)) == [prune]
    assert make_room(patient, [str(patient.settings.root_dir)], roots).startswith("du ")


def test_each_file_system_is_looked_at_once(patient: Patient) -> None:
    put(patient, "/srv/docker/x", "")
    (found,) = check_room(patient, ("/srv/docker", "/var/lib/containerd"))
    places = f"/srv/docker, /var/log/pods, {patient.settings.root_dir} and {patient.settings.state_dir} are on"
    assert f" that {places} " in found.what
