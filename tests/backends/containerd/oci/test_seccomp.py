"""Seccomp filters: the default one under its conditions, and a node's own."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.backends.containerd.oci.inputs import Profiles
from cri_dockerd_py.backends.containerd.oci.seccomp import default_filter
from cri_dockerd_py.backends.containerd.oci.seccomp_profile import checked_profile
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import Capabilities, ContainerSecurity, ProfileType, SecurityProfile
from tests.backends.containerd.oci.values import FACTS, OWN_PID, Spec, container, container_document

DEFAULT = SecurityProfile(ProfileType.RUNTIME_DEFAULT)
LOCAL = SecurityProfile(ProfileType.LOCALHOST, "/p.json")
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"


def allowed(filter_: Spec) -> set[str]:
    """Return the calls that are allowed whatever their arguments."""
    rules = [rule for rule in filter_["syscalls"] if rule["action"] == ALLOW and "args" not in rule]
    return {name for rule in rules for name in rule["names"]}


def rules_for(filter_: Spec, name: str) -> list[Spec]:
    """Return the rules that name a call."""
    return [rule for rule in filter_["syscalls"] if name in rule["names"]]


def secured(profile: SecurityProfile | None, **fields: Any) -> Spec:
    """Return the Linux part of the spec of a container with a profile."""
    local = fields.pop("local", None)
    facts = fields.pop("facts", FACTS)
    spec = container(ContainerSecurity(namespaces=OWN_PID, seccomp=profile, **fields))
    linux: Spec = container_document(spec, profiles=Profiles(local), facts=facts)["linux"]
    return linux


@pytest.mark.behaviour("SCC-01", "SCC-02", "SCC-03", "SCC-06")
@pytest.mark.parametrize(
    ("profile", "privileged", "filtered"),
    [
        (None, False, False),
        (SecurityProfile(ProfileType.UNCONFINED), False, False),
        (DEFAULT, False, True),
        (DEFAULT, True, False),
        (LOCAL, True, False),
    ],
)
def test_who_is_filtered(profile: SecurityProfile | None, privileged: bool, filtered: bool) -> None:
    assert ("seccomp" in secured(profile, privileged=privileged)) is filtered


@pytest.mark.behaviour("SCC-08")
def test_kernel_without_seccomp() -> None:
    facts = replace(FACTS, seccomp=False)
    secured(None, facts=facts)
    secured(SecurityProfile(ProfileType.UNCONFINED), facts=facts)
    for profile in (DEFAULT, LOCAL):
        with pytest.raises(InvalidArgument, match="no seccomp"):
            secured(profile, facts=facts)


def test_default_filter() -> None:
    filter_ = default_filter(FACTS, ())
    json.dumps(filter_)
    names = allowed(filter_)
    assert filter_["defaultAction"] == ERRNO
    assert filter_["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert {"read", "openat2", "chown32", "futex_time64", "ptrace", "arch_prctl", "clock_adjtime64"} <= names
    assert {"mount", "bpf", "unshare", "reboot", "chroot", "syslog", "keyctl", "io_uring_setup"}.isdisjoint(names)
    assert rules_for(filter_, "socket")[0]["args"] == [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]
    personalities = [rule["args"][0]["value"] for rule in rules_for(filter_, "personality")]
    assert personalities == [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]
    clone = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    assert rules_for(filter_, "clone") == [{"names": ["clone"], "action": ALLOW, "args": [clone]}]
    assert rules_for(filter_, "clone3") == [{"names": ["clone3"], "action": ERRNO, "errnoRet": 38}]


@pytest.mark.parametrize(
    ("capability", "names"),
    [
        ("CAP_SYS_ADMIN", {"mount", "clone", "clone3", "bpf", "setns", "syslog"}),
        ("CAP_SYS_CHROOT", {"chroot"}),
        ("CAP_SYS_TIME", {"settimeofday", "stime", "clock_settime", "clock_settime64"}),
        ("CAP_BPF", {"bpf"}),
        ("CAP_PERFMON", {"perf_event_open"}),
        ("CAP_SYSLOG", {"syslog"}),
        ("CAP_DAC_READ_SEARCH", {"open_by_handle_at"}),
        ("CAP_SYS_NICE", {"mbind"}),
    ],
)
def test_capabilities_open_calls(capability: str, names: set[str]) -> None:
    assert names.isdisjoint(allowed(default_filter(FACTS, ())))
    assert names <= allowed(default_filter(FACTS, {capability}))


def test_filter_follows_the_containers_own_capabilities() -> None:
    plain = secured(DEFAULT)["seccomp"]
    assert "chroot" in allowed(plain)
    admin = secured(DEFAULT, capabilities=Capabilities(add=("SYS_ADMIN",), drop=("SYS_CHROOT",)))["seccomp"]
    assert "mount" in allowed(admin)
    assert "chroot" not in allowed(admin)
    assert all(rule["action"] == ALLOW for rule in admin["syscalls"])


@pytest.mark.parametrize(
    ("architecture", "sets", "own", "flags"),
    [
        ("arm64", ["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"], "sync_file_range2", 0),
        ("s390x", ["SCMP_ARCH_S390", "SCMP_ARCH_S390X"], "s390_pci_mmio_read", 1),
        ("riscv64", ["SCMP_ARCH_RISCV64"], "riscv_flush_icache", 0),
        ("ppc64le", [], "swapcontext", 0),
    ],
)
def test_other_architectures(architecture: str, sets: list[str], own: str, flags: int) -> None:
    filter_ = default_filter(replace(FACTS, architecture=architecture), ())
    assert filter_["architectures"] == sets
    assert own in allowed(filter_)
    assert "arch_prctl" not in allowed(filter_)
    assert rules_for(filter_, "clone")[0]["args"][0]["index"] == flags


def test_old_kernel_keeps_processes_from_tracing() -> None:
    assert "ptrace" not in allowed(default_filter(replace(FACTS, kernel=(4, 4)), ()))


# --- a node's own profile


@pytest.mark.behaviour("SCC-04")
def test_profile_of_the_node_is_used_as_it_is() -> None:
    document: Spec = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["read"], "action": ALLOW},
            {
                "names": ["x"],
                "action": ERRNO,
                "errnoRet": 1,
                "args": [{"index": 0, "value": 1 << 63, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }
    assert secured(LOCAL, local=document)["seccomp"] == document
    with pytest.raises(InvalidArgument, match="was not read"):
        secured(LOCAL)


@pytest.mark.parametrize(
    ("capabilities", "kernel", "names"),
    [
        ((), (4, 4), {"read", "no-admin"}),
        ((), (6, 1), {"read", "new", "no-admin"}),
        (("CAP_SYS_ADMIN",), (6, 1), {"read", "new", "admin"}),
    ],
)
def test_conditions_of_dockers_form(capabilities: Collection[str], kernel: tuple[int, int], names: set[str]) -> None:
    document: Spec = {
        "defaultAction": ERRNO,
        "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        ],
        "syscalls": [
            {"name": "read", "action": ALLOW, "args": None, "comment": "", "includes": {}, "excludes": {}},
            {"names": ["arm"], "action": ALLOW, "includes": {"arches": ["arm64"]}},
            {"names": ["new"], "action": ALLOW, "includes": {"minKernel": "4.8", "arches": ["amd64", "arm64"]}},
            {"names": ["admin"], "action": ALLOW, "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["no-admin"], "action": ALLOW, "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}},
        ],
    }
    filter_ = checked_profile(document, "/p", replace(FACTS, kernel=kernel), capabilities)
    assert {name for rule in filter_["syscalls"] for name in rule["names"]} == names
    assert filter_["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert all(rule.keys() == {"names", "action"} for rule in filter_["syscalls"])


@pytest.mark.behaviour("SCC-05")
@pytest.mark.parametrize(
    "document",
    [
        {},
        {"defaultAction": "SCMP_ACT_NONSENSE"},
        {"defaultAction": 1},
        {"defaultAction": ALLOW, "syscalls": {}},
        {"defaultAction": ALLOW, "syscalls": [1]},
        {"defaultAction": ALLOW, "syscalls": [{"action": ALLOW}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["x"]}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": [1], "action": ALLOW}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["x"], "action": ALLOW, "errnoRet": "1"}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["x"], "action": ALLOW, "args": [{"op": "EQ"}]}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["x"], "action": ALLOW, "args": ["x"]}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["x"], "action": ALLOW, "includes": "x"}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["x"], "action": ALLOW, "includes": [1]}]},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["x"], "action": ALLOW, "includes": {"minKernel": "x"}}]},
        {"defaultAction": ALLOW, "architectures": "x"},
        {"defaultAction": ALLOW, "archMap": ["x"]},
    ],
)
def test_bad_profiles_are_refused(document: Spec) -> None:
    with pytest.raises(InvalidArgument, match=r"seccomp profile /p\.json"):
        secured(LOCAL, local=document)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(ALLOW),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["names", "action", "args", "op", "includes", "caps"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["defaultAction", "syscalls", "archMap", "architectures"]), _values))
def test_any_document_is_used_or_refused(document: Spec) -> None:
    try:
        json.dumps(checked_profile(document, "/p", FACTS, ()))
    except InvalidArgument:
        return
