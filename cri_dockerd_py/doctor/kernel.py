"""What the kernel must offer: namespaces, overlayfs, seccomp, forwarding, and the right to set OOM scores."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning

AREA = "kernel"
_OLDEST = (4, 19)
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 21, 24


def check_kernel(patient: Patient) -> Iterable[Finding]:
    """Look at version, namespaces, file systems and seccomp."""
    release = patient.text("/proc/sys/kernel/osrelease")
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if version < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        yield warning(
            AREA, f"Linux {release} is older than {wanted}", "engines are not tested on it", "upgrade the kernel"
        )
    else:
        yield ok(AREA, f"Linux {release}")
    missing = [name for name in _NAMESPACES if not patient.exists(f"/proc/self/ns/{name}")]
    if missing:
        names = ", ".join(missing)
        yield failure(
            AREA, f"no {names} namespaces", "pods cannot be kept apart", "boot a kernel with CONFIG_NAMESPACES"
        )
    if "overlay" not in patient.text("/proc/filesystems").split():
        why = "containers' layers are mounted with it; engines fall back to copying whole images"
        yield warning(
            AREA, "overlayfs is not loaded", why, "modprobe overlay; echo overlay > /etc/modules-load.d/overlay.conf"
        )
    if "\nSeccomp:" not in f"\n{patient.text('/proc/self/status')}":
        yield warning(
            AREA,
            "no seccomp",
            "pods with RuntimeDefault profiles are refused",
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        )


def check_rights(patient: Patient) -> Iterable[Finding]:
    """Look at the capabilities that this very process has, which are the service's when root runs both."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", patient.text("/proc/self/status"), re.MULTILINE)
    effective = int(match[1], 16) if match else 0
    if not effective >> _CAP_SYS_ADMIN & 1:
        yield failure(
            AREA, "no CAP_SYS_ADMIN", "namespaces and mounts cannot be made", "run the service as root on the node"
        )
    if not effective >> _CAP_SYS_RESOURCE & 1:
        yield warning(
            AREA,
            "no CAP_SYS_RESOURCE",
            "OOM scores cannot be lowered, so critical pods are not preferred when memory runs out",
            "give the node (or the container that it is) CAP_SYS_RESOURCE",
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
            "sysctl -w net.ipv4.ip_forward=1; echo net.ipv4.ip_forward=1 > /etc/sysctl.d/90-kubernetes.conf",
        )
    bridged = patient.text("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged != "1":
        state = "off" if bridged else "not loaded"
        yield warning(
            AREA,
            f"bridge-nf-call-iptables is {state}",
            "kube-proxy's rules do not apply between pods of one bridge, so they may not reach services of each other",
            "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1",
        )
