"""What kubelet is told: by flags, which count more than its configuration file, and by that."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cri_dockerd_py.doctor.finding import Patient
from cri_dockerd_py.doctor.mends import replace_in, substitute_in

CONFIG = "/var/lib/kubelet/config.yaml"
#: kubeadm's unit gives the flags of the last of these files first, and kubelet takes the last of several.
_FLAG_FILES = ("/etc/default/kubelet", "/etc/sysconfig/kubelet", "/var/lib/kubelet/kubeadm-flags.env")


@dataclass(frozen=True, slots=True)
class Told:
    """A setting, the file that it comes from, and the flag as it is written there; without a flag, the file's key."""

    value: str
    file: str
    flag: str = ""
    key: str = ""

    def change(self, value: str) -> str:
        """Return the command that sets another value where this one comes from."""
        if self.flag:
            return replace_in(self.file, self.flag, self.flag.removesuffix(self.value) + value)
        return substitute_in(self.file, f"^{self.key}:.*", f"{self.key}: {value}")


def told(patient: Patient, flag: str, key: str) -> Told | None:
    """Return the setting that is `flag` on kubelet's command line and `key` in its configuration; None: the default."""
    for file in _FLAG_FILES:
        lines = [line for line in patient.text(file).splitlines() if not line.lstrip().startswith(("#", ";"))]
        given = list(re.finditer(rf"(?<![\w-])--{flag}(?:=|[ \t]+)([^\s\"']+)", "\n".join(lines)))
        if given:
            return Told(given[-1][1], file, flag=given[-1][0])
    written = re.search(rf"^{key}:[ \t]*[\"']?([^\"'\s#]+)", patient.text(CONFIG), re.MULTILINE)
    return Told(written[1], CONFIG, key=key) if written else None


def told_endpoint(patient: Patient) -> Told | None:
    """Return where kubelet looks for the CRI server."""
    return told(patient, "container-runtime-endpoint", "containerRuntimeEndpoint")


def told_driver(patient: Patient) -> Told | None:
    """Return the driver by which kubelet makes pods' cgroups."""
    return told(patient, "cgroup-driver", "cgroupDriver")
