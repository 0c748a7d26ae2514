"""Which seccomp filter a process gets (SCC-01 to SCC-08), and the default one for what it may do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cri_dockerd_py.backends.containerd.oci import seccomp_table as table
from cri_dockerd_py.backends.containerd.oci.facts import HostFacts
from cri_dockerd_py.backends.containerd.oci.seccomp_profile import checked_profile
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import ProfileType, SecurityProfile

_ALLOW = "SCMP_ACT_ALLOW"
_ERRNO = "SCMP_ACT_ERRNO"
_ENOSYS = 38
_SYS_ADMIN = "CAP_SYS_ADMIN"


def seccomp_filter(
    profile: SecurityProfile | None,
    facts: HostFacts,
    bounding: Collection[str],
    local: Mapping[str, object] | None,
    *,
    privileged: bool,
    native_only: bool = False,
) -> dict[str, Any] | None:
    """Return `linux.seccomp`, None for no filter.

    `bounding` is the bounding set of the process; `local` the document of a Localhost profile. `native_only` leaves
    the kernel's other instruction sets out of the default filter, for a program that is known to use none.
    """
    if privileged or profile is None or profile.kind is ProfileType.UNCONFINED:
        return None
    if not facts.seccomp:
        raise InvalidArgument("a seccomp profile is asked for, and the kernel of this node has no seccomp")
    if profile.kind is ProfileType.RUNTIME_DEFAULT:
        return default_filter(facts, bounding, native_only=native_only)
    if local is None:
        raise InvalidArgument(f"seccomp profile {profile.localhost_ref} was not read")
    return checked_profile(local, profile.localhost_ref, facts, bounding)


def default_filter(facts: HostFacts, bounding: Collection[str], *, native_only: bool = False) -> dict[str, Any]:
    """Return the default filter for this host and these capabilities."""
    architecture = facts.architecture
    # libseccomp adds the native set by itself, and compiles the filter anew for every further one.
    instruction_sets = () if native_only else table.INSTRUCTION_SETS.get(architecture, ())
    rules = [
        _allow(table.ALWAYS),
        _allow(["socket"], _argument(0, table.AF_VSOCK, "SCMP_CMP_NE")),
        *(_allow(["personality"], _argument(0, value, "SCMP_CMP_EQ")) for value in table.PERSONALITIES),
    ]
    if facts.kernel >= (4, 8):
        rules.append(_allow(table.SINCE_LINUX_4_8))
    if architecture in table.BY_ARCHITECTURE:
        rules.append(_allow(table.BY_ARCHITECTURE[architecture]))
    rules += [_allow(names) for capability, names in table.BY_CAPABILITY.items() if capability in bounding]
    if _SYS_ADMIN not in bounding:
        flags = _argument(1 if architecture == "s390x" else 0, table.CLONE_NAMESPACES, "SCMP_CMP_MASKED_EQ")
        rules.append(_allow(["clone"], {**flags, "valueTwo": 0}))
        # Libraries then fall back to clone, whose flags a filter can see
        rules.append({"names": ["clone3"], "action": _ERRNO, "errnoRet": _ENOSYS})
    return {
        "defaultAction": _ERRNO,
        "architectures": list(instruction_sets),
        "syscalls": rules,
    }


def _allow(names: list[str], argument: Mapping[str, Any] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": _ALLOW}
    if argument is not None:
        rule["args"] = [dict(argument)]
    return rule


def _argument(index: int, value: int, operator: str) -> dict[str, Any]:
    return {"index": index, "value": value, "op": operator}
