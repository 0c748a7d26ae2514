"""The service's own sockets, and whether kubelet looks for the one that it serves."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from cri_dockerd_py.doctor.finding import Finding, Patient, failure, ok, warning
from cri_dockerd_py.doctor.kubelet import told_endpoint
from cri_dockerd_py.doctor.mends import UNIT, served_endpoint

AREA = "sockets"
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
        yield failure(AREA, f"no {name} socket at {path}", why, f"systemctl start {UNIT} || journalctl -u {UNIT} -n 50")
        return
    if stat.S_IMODE(status.st_mode) & stat.S_IRWXO or status.st_uid != 0:
        yield failure(
            AREA,
            f"the {name} socket {path} is open to users other than root",
            "whoever can connect to it is root on this node",
            f"chown root:root {path} && chmod {'0600' if name == 'admin' else '0660'} {path}",
        )
    elif _accepts(path):
        yield ok(AREA, f"{name} socket {path} answers")
    else:
        why = "the service has ended or hangs"
        fix = f"journalctl -u {UNIT} -n 50; systemctl restart {UNIT}"
        yield failure(AREA, f"nobody answers at the {name} socket {path}", why, fix)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_WITHIN_S)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def check_kubelet(patient: Patient) -> Iterable[Finding]:
    """Compare kubelet's endpoint with ours, where what it is told can be found."""
    told = told_endpoint(patient)
    if told is None:
        return
    ours = served_endpoint(patient)
    if _socket_of(patient, told.value) == _socket_of(patient, ours):
        yield ok(AREA, f"kubelet uses {told.value}")
    else:
        yield warning(
            AREA,
            f"kubelet uses {told.value} ({told.file}), this service serves at {ours}",
            "kubelet's pods are another CRI server's",
            f"{told.change(ours)} && systemctl restart kubelet  # drain the node first, if its pods are not taken over",
        )


def _socket_of(patient: Patient, endpoint: str) -> str:
    """Return the path of an endpoint's socket; any other endpoint as it is."""
    if "://" in endpoint and not endpoint.startswith("unix://"):
        return endpoint
    return patient.real(endpoint.removeprefix("unix:"))
