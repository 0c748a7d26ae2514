"""All checks, one after another; a check that fails itself is a finding too."""

from __future__ import annotations

from cri_dockerd_py.doctor.cgroups import check_controllers
from cri_dockerd_py.doctor.clock import check_clock
from cri_dockerd_py.doctor.cni import check_cni
from cri_dockerd_py.doctor.disk import check_disk
from cri_dockerd_py.doctor.engines import check_engines
from cri_dockerd_py.doctor.finding import Check, Finding, Patient, failure
from cri_dockerd_py.doctor.kernel import check_forwarding, check_kernel, check_rights
from cri_dockerd_py.doctor.leftovers import check_leftovers
from cri_dockerd_py.doctor.sockets import check_kubelet, check_sockets
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.settings import Settings

CHECKS: tuple[Check, ...] = (
    check_kernel,
    check_rights,
    check_forwarding,
    check_controllers,
    check_engines,
    check_cni,
    check_sockets,
    check_kubelet,
    check_disk,
    check_clock,
    check_leftovers,
)


def examine(settings: Settings) -> list[Finding]:
    """Return what every check finds."""
    patient = Patient(settings)
    return [finding for check in CHECKS for finding in _run(check, patient)]


def _run(check: Check, patient: Patient) -> list[Finding]:
    try:
        return list(check(patient))
    except (CriError, OSError, ValueError) as error:
        name = check.__name__.removeprefix("check_")
        return [failure(name, f"this could not be looked at: {error}", "it may be wrong", "sudo cri-dockerd-py doctor")]
