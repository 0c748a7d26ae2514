"""Capability lists: names without `CAP_`, in upper case, all of them known to the kernel (CAP-01)."""

from __future__ import annotations

from collections.abc import Iterable

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.model.security import Capabilities

# fmt: off
KNOWN = frozenset({
    "ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
    "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "WAKE_ALARM",
})
# fmt: on


def capabilities(field: str, given: pb.Capability) -> Capabilities:
    """Return the three lists with their names normalised, each name once."""
    return Capabilities(
        add=_names(f"{field}.add_capabilities", given.add_capabilities),
        drop=_names(f"{field}.drop_capabilities", given.drop_capabilities),
        add_ambient=_names(f"{field}.add_ambient_capabilities", given.add_ambient_capabilities),
    )


def _names(field: str, given: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_name(f"{field}[{index}]", value) for index, value in enumerate(given)))


def _name(field: str, value: str) -> str:
    known = value.upper().removeprefix("CAP_")
    if known not in KNOWN:
        fields.refuse(field, value, "it is no Linux capability; give a name such as NET_ADMIN, or ALL")
    return known
