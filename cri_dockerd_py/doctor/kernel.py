"""What the kernel must offer: namespaces, overlayfs, seccomp, forwarding, and the right to set OOM scores."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.doctor.mends import UNIT, package_tool, upgrade

AREA = "kernel"
_OLDEST = (4, 19)
_KERNEL_PACKAGES = {"apt-get": "'linux-image-*'", "zypper": "kernel-default"}
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 21, 24


def check_kernel(patient: Patient) -> Iterable[Finding]:
    """Look at version, namespaces, file systems and seccomp."""
    release = patient.text("/proc/sys/kernel/osrelease")
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if version < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        newer = upgrade(patient, _KERNEL_PACKAGES.get(package_tool(patient), "kernel"))
        fix = f"{newer} && systemctl reboot  # drain the node first; where this is the newest, upgrade the distribution"
        yield warning(AREA, f"Linux {release} is older than {wanted}", "engines are not tested on it", fix)
    else:
        yield ok(AREA, f"Linux {release}")
    missing = [name for name in _NAMESPACES if not patient.exists(f"/proc/self/ns/{name}")]
    if missing:
        names = ", ".join(missing)
        yield failure(AREA, f"no {names} namespaces", "pods cannot be kept apart", _look_for("[A-Z]*_NS|NAMESPACES"))
    if "overlay" not in patient.text("/proc/filesystems").split():
        why = "containers' layers are mounted with it; engines fall back to copying whole images"
        yield warning(AREA, "overlayfs is not loaded", why, _load("overlay"))
    if "\nSeccomp:" not in f"\n{patient.text('/proc/self/status')}":
        yield warning(
            AREA,
            "no seccomp",
            "pods with RuntimeDefault profiles are refused",
            _look_for("SECCOMP|SECCOMP_FILTER"),
        )


def check_rights(patient: Patient) -> Iterable[Finding]:
    """Look at the capabilities that this very process has, which are the service's when root runs both."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", patient.text("/proc/self/status"), re.MULTILINE)
    effective = int(match[1], 16) if match else 0
    if not effective >> _CAP_SYS_ADMIN & 1:
        yield failure(
            AREA,
            "no CAP_SYS_ADMIN",
            "namespaces and mounts cannot be made",
            "sudo cri-dockerd-py doctor  # and run the service as root, on the node itself",
        )
    if not effective >> _CAP_SYS_RESOURCE & 1:
        yield warning(
            AREA,
            "no CAP_SYS_RESOURCE",
            "OOM scores cannot be lowered, so critical pods are not preferred when memory runs out",
            "sudo cri-dockerd-py doctor  # if the node is a container, give it --cap-add SYS_RESOURCE",
        )


def check_forwarding(patient: Patient) -> Iterable[Finding]:
    """Look at what packets of pods need."""
    if patient.text("/proc/sys/net/ipv4/ip_forward") == "1":
        yield ok(AREA, "IPv4 forwarding is on")
    else:
        yield failure(
            AREA,
            "IPv4 forwarding is off",
            "packets of pods do not leave the node",
            _keep("net.ipv4.ip_forward=1", "forwarding"),
        )
    bridged = patient.text("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged != "1":
        state = "off" if bridged else "not loaded"
        yield warning(
            AREA,
            f"bridge-nf-call-iptables is {state}",
            "kube-proxy's rules do not apply between pods of one bridge, so they may not reach services of each other",
            f"{_load('br_netfilter')} && {_keep('net.bridge.bridge-nf-call-iptables=1', 'bridge')}",
        )


def _load(module: str) -> str:
    """Return the command that loads a module now and at every boot."""
    return f"modprobe {module} && echo {module} > /etc/modules-load.d/{UNIT}-{module}.conf"


def _keep(assignment: str, name: str) -> str:
    """Return the command that sets a sysctl now and at every boot."""
    file = f"/etc/sysctl.d/99-{UNIT}-{name}.conf"
    return f"echo {assignment} > {file} && sysctl -p {file}"


def _look_for(options: str) -> str:
    return f'grep -E "CONFIG_({options})[ =]" "/boot/config-$(uname -r)"  # boot a kernel in which each of them is y'
