"""Cgroups: version, controllers, and whether everybody who makes them uses the same driver."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning

AREA = "cgroups"
_NEEDED = ("cpu", "memory", "pids")
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
_V2 = "/sys/fs/cgroup/cgroup.controllers"


def check_controllers(patient: Patient) -> Iterable[Finding]:
    """Look at the hierarchy, or hierarchies, and their controllers."""
    if patient.exists(_V2):
        version, present = 2, patient.text(_V2).split()
    else:
        enabled = [line.split() for line in patient.text("/proc/cgroups").splitlines() if not line.startswith("#")]
        version, present = 1, [fields[0] for fields in enabled if fields[-1] == "1"]
    missing = [name for name in _NEEDED if name not in present]
    if missing:
        names = ", ".join(missing)
        yield failure(
            AREA,
            f"no {names} controller",
            "limits of pods are not kept",
            "remove cgroup_disable= from the kernel's command line",
        )
    else:
        yield ok(AREA, f"version {version} with {', '.join(_NEEDED)}")


def kubelet_driver(patient: Patient) -> str:
    """Return the cgroup driver that kubelet's configuration names, empty when it is not told there."""
    match = re.search(r"^cgroupDriver:\s*[\"']?(\w+)", patient.text(KUBELET_CONFIG), re.MULTILINE)
    return match[1] if match else ""


def compare_drivers(patient: Patient, drivers: dict[str, str]) -> Iterable[Finding]:
    """Compare the engines' drivers (engine name → driver) with each other, kubelet and the init system."""
    kubelet = kubelet_driver(patient)
    if kubelet:
        drivers = {**drivers, "kubelet": kubelet}
    if len(set(drivers.values())) > 1:
        told = ", ".join(f"{name} {driver}" for name, driver in sorted(drivers.items()))
        yield failure(
            AREA,
            f"different cgroup drivers: {told}",
            "pods' cgroups are made in two places, so their limits and statistics are wrong or pods do not start",
            'use systemd everywhere: "exec-opts": ["native.cgroupdriver=systemd"] in /etc/docker/daemon.json, '
            f'cgroup_driver = "systemd" in this service\'s settings, cgroupDriver: systemd in {KUBELET_CONFIG}',
        )
    elif drivers:
        yield ok(AREA, f"driver {next(iter(drivers.values()))} ({', '.join(sorted(drivers))})")
    if "cgroupfs" in drivers.values() and patient.exists("/run/systemd/system"):
        yield warning(
            AREA,
            "the cgroupfs driver beside systemd",
            "two programs manage one tree, which makes nodes unstable when memory is short",
            "change to the systemd driver while the node is drained",
        )
