"""The service's own sockets, and whether kubelet looks for the one that it serves."""

from __future__ import annotations

import re
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from cri_dockerd_py.doctor.cgroups import KUBELET_CONFIG
from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning

AREA = "sockets"
_KUBEADM_FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
_ANSWER_WITHIN_S = 5.0


def check_sockets(patient: Patient) -> Iterable[Finding]:
    """Look at who may connect, and whether somebody answers."""
    endpoint = patient.settings.container_runtime_endpoint
    if endpoint.startswith("unix://"):
        yield from _check(Path(endpoint.removeprefix("unix://")), "CRI")
    yield from _check(patient.settings.admin_socket, "admin")


def _check(path: Path, name: str) -> Iterable[Finding]:
    try:
        status = path.stat()
    except FileNotFoundError:
        why = "kubelet cannot reach the service" if name == "CRI" else "`status` and `migrate` cannot reach the service"
        yield failure(AREA, f"no {name} socket at {path}", why, "systemctl start cri-dockerd-py")
        return
    if stat.S_IMODE(status.st_mode) & stat.S_IRWXO or status.st_uid != 0:
        yield failure(
            AREA,
            f"the {name} socket {path} is open to users other than root",
            "whoever can connect to it is root on this node",
            f"chown root:root {path}; chmod 0660 {path}",
        )
    elif _accepts(path):
        yield ok(AREA, f"{name} socket {path} answers")
    else:
        why = "the service has ended or hangs"
        yield failure(AREA, f"nobody answers at the {name} socket {path}", why, "journalctl -u cri-dockerd-py")


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_WITHIN_S)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def check_kubelet(patient: Patient) -> Iterable[Finding]:
    """Compare kubelet's endpoint with ours, where its configuration can be found."""
    configured = _kubelet_endpoint(patient)
    ours = patient.settings.container_runtime_endpoint
    if not configured or ours == "fd://":
        return
    if configured == ours:
        yield ok(AREA, f"kubelet uses {configured}")
    else:
        yield warning(
            AREA,
            f"kubelet uses {configured}, this service serves at {ours}",
            "kubelet's pods are another CRI server's",
            f"set containerRuntimeEndpoint: {ours} in {KUBELET_CONFIG}; systemctl restart kubelet",
        )


def _kubelet_endpoint(patient: Patient) -> str:
    flags = re.search(r"--container-runtime-endpoint=(\S+?)[\"'\s]", f"{patient.text(_KUBEADM_FLAGS)} ")
    told = re.search(r"^containerRuntimeEndpoint:\s*[\"']?([^\"'\s]+)", patient.text(KUBELET_CONFIG), re.MULTILINE)
    found = flags or told
    if found is None:
        return ""
    return found[1] if "://" in found[1] else f"unix://{found[1]}"
