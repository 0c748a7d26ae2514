"""Cgroups: version, controllers, and whether everybody who makes them uses the same driver."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.doctor.kubelet import Told, told_driver
from cri_dockerd_py.doctor.mends import UNIT, replace_in, set_in_docker, set_in_service

AREA = "cgroups"
_NEEDED = ("cpu", "memory", "pids")
_SYSTEMD = "/run/systemd/system"
#: The options of the kernel that controllers come with.
_OPTIONS = {"cpu": "CGROUP_SCHED|CFS_BANDWIDTH", "memory": "MEMCG", "pids": "CGROUP_PIDS"}
_GRUBBY = "/usr/sbin/grubby"
_GRUB = "/etc/default/grub"
_BOOT_FILES = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt", _GRUB)
_REBOOT = "systemctl reboot  # drain the node first"
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
            AREA, f"no {names} controller", "limits of pods are not kept", enable_controllers(patient, missing)
        )
    else:
        yield ok(AREA, f"version {version} with {', '.join(_NEEDED)}")


def enable_controllers(patient: Patient, missing: Iterable[str]) -> str:
    """Return the command that has the kernel offer controllers, or "swap" limits, from its next start on."""
    names = set(missing)
    words = [word for word in patient.text("/proc/cmdline").split() if word.startswith("cgroup_disable=")]
    disabling = [word for word in words if names & set(word.partition("=")[2].split(","))]
    for word in disabling:
        if patient.exists(_GRUBBY):
            return f"grubby --update-kernel=ALL --remove-args={word} && {_REBOOT}"
        for file in _boot_files(patient):
            if word in patient.text(file):
                update = " && update-grub" if file.startswith(_GRUB) else ""
                return f"{replace_in(file, word, '')}{update} && {_REBOOT}"
    if names & {"memory", "swap"}:
        return _boot_with(patient, "cgroup_enable=memory swapaccount=1" if "swap" in names else "cgroup_enable=memory")
    if disabling:
        return f"# remove {disabling[0]} from the kernel's command line, drain the node and boot it"
    options = "|".join(_OPTIONS[name] for name in sorted(names & _OPTIONS.keys()))
    return f'grep -E "CONFIG_({options})[ =]" "/boot/config-$(uname -r)"  # boot a kernel in which each of them is y'


def _boot_with(patient: Patient, words: str) -> str:
    if patient.exists(_GRUBBY):
        return f"grubby --update-kernel=ALL --args={shlex.quote(words)} && {_REBOOT}"
    file = next(iter(_boot_files(patient)), "")
    if not file:
        return f"# add {words} to the kernel's command line, drain the node and boot it"
    if not file.startswith(_GRUB):
        return f"sed -i {shlex.quote(f'1s/$/ {words}/')} {file} && {_REBOOT}"
    line = shlex.quote(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {words}"')
    return f"mkdir -p {_GRUB}.d && echo {line} > {_GRUB}.d/{UNIT}.cfg && update-grub && {_REBOOT}"


def _boot_files(patient: Patient) -> list[str]:
    """Return the files that the kernel's command line is made from, as far as they are there."""
    parts = (f"{_GRUB}.d/{path.name}" for path in sorted((patient.root / f"{_GRUB}.d".lstrip("/")).glob("*.cfg")))
    return [file for file in (*_BOOT_FILES, *parts) if patient.exists(file)]


def compare_drivers(patient: Patient, drivers: Mapping[str, str]) -> Iterable[Finding]:
    """Compare the engines' drivers (engine name → driver) with each other, kubelet and the init system."""
    told = told_driver(patient)
    if told is not None:
        drivers = {**drivers, "kubelet": told.value}
    wanted = "systemd" if patient.exists(_SYSTEMD) else "cgroupfs"
    if len(set(drivers.values())) > 1:
        named = ", ".join(f"{name} {driver}" for name, driver in sorted(drivers.items()))
        yield failure(
            AREA,
            f"different cgroup drivers: {named}",
            "pods' cgroups are made in two places, so their limits and statistics are wrong or pods do not start",
            _change_drivers(drivers, told, wanted),
        )
    elif drivers:
        yield ok(AREA, f"driver {next(iter(drivers.values()))} ({', '.join(sorted(drivers))})")
        if wanted == "systemd" and "cgroupfs" in drivers.values():
            yield warning(
                AREA,
                "the cgroupfs driver beside systemd",
                "two programs manage one tree, which makes nodes unstable when memory is short",
                _change_drivers(drivers, told, wanted),
            )


def _change_drivers(drivers: Mapping[str, str], told: Told | None, wanted: str) -> str:
    """Return the command that has everybody use one driver, while no pod runs."""
    changes, restarts = [], []
    if drivers.get("Docker", wanted) != wanted:
        driver = "native.cgroupdriver="
        others = f'[o for o in d.get("exec-opts", []) if not o.startswith("{driver}")]'
        changes.append(set_in_docker(f'd["exec-opts"] = {others} + ["{driver}{wanted}"]'))
        restarts.append("systemctl restart docker")
    if drivers.get("containerd", wanted) != wanted:
        changes.append(set_in_service("cgroup_driver", wanted))
        restarts.append(f"systemctl restart {UNIT}")
    if told is not None and told.value != wanted:
        changes.append(told.change(wanted))
    drain, uncordon = 'kubectl drain "$(hostname)" --ignore-daemonsets', 'kubectl uncordon "$(hostname)"'
    steps = [drain, *changes, "systemctl stop kubelet", *restarts, "systemctl start kubelet", uncordon]
    return f"{' && '.join(steps)}  # where kubectl may not drain from here, do that elsewhere first"
