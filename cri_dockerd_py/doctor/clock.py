"""Whether the kernel's clock is kept right (adjtimex(2))."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Patient, ok, warning
from cri_dockerd_py.doctor.mends import install, package_tool

AREA = "clock"
_TIME_ERROR = 5
#: struct timex is 208 bytes; its first field `modes` is 0 when nothing is to be set.
_TIMEX_BYTES = 256
_UNIT_DIRECTORIES = ("/usr/lib/systemd/system", "/lib/systemd/system")


def check_clock(patient: Patient) -> Iterable[Finding]:
    """Ask the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _TIME_ERROR:
        yield warning(
            AREA,
            "the clock is not synchronised",
            "certificates and tokens of the cluster are refused when it is wrong, and logs of nodes do not line up",
            synchronise(patient),
        )
    elif state >= 0:
        yield ok(AREA, "the clock is synchronised")


def synchronise(patient: Patient) -> str:
    """Return the command that has the clock kept right, by what the node has, or by chrony."""
    for unit in ("chronyd", "chrony", "systemd-timesyncd"):
        if any(patient.exists(f"{directory}/{unit}.service") for directory in _UNIT_DIRECTORIES):
            return f"systemctl enable --now {unit} && journalctl -u {unit} -n 20  # says why, where it runs already"
    unit = "chrony" if package_tool(patient) == "apt-get" else "chronyd"
    return f"{install(patient, 'chrony')} && systemctl enable --now {unit}"
