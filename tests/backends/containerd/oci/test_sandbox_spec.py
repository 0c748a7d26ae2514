"""Specs of sandboxes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cri_dockerd_py.backends.containerd.oci.facts import HandlerOptions, SelinuxLabels
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.security import (
    IdMapping,
    NamespaceMode,
    NamespaceOptions,
    ProfileType,
    SandboxSecurity,
    SecurityProfile,
    UserNamespace,
)
from tests.backends.containerd.oci.values import (
    FACTS,
    FILES,
    HANDLER,
    POD,
    Spec,
    mounts_by_place,
    sandbox,
    sandbox_document,
)

NODE = NamespaceMode.NODE
IDS = (IdMapping(100_000, 0, 65_536),)
USERNS = UserNamespace(NamespaceMode.POD, IDS, IDS)


def namespaces(document: Spec) -> dict[str, str]:
    """Return the paths of a spec's namespaces by kind, "" for new ones."""
    return {item["type"]: item.get("path", "") for item in document["linux"]["namespaces"]}


def options(**fields: Any) -> SandboxSecurity:
    """Return a security context with these namespaces."""
    return SandboxSecurity(namespaces=NamespaceOptions(**fields))


@pytest.mark.behaviour("RUN-09", "RUN-13")
def test_plain_sandbox() -> None:
    document = sandbox_document(sandbox(hostname="web-0"))
    json.dumps(document)
    assert document["root"] == {"path": "rootfs", "readonly": True}
    assert document["hostname"] == "web-0"
    process = document["process"]
    assert (process["args"], process["env"], process["cwd"]) == (["/pause"], [], "/")
    assert process["user"] == {"uid": 65535, "gid": 65535, "additionalGids": [65535]}
    assert process["noNewPrivileges"] is True
    assert process["oomScoreAdj"] == -998
    assert "CAP_SYS_ADMIN" not in process["capabilities"]["bounding"]
    assert "rlimits" not in process
    linux = document["linux"]
    assert linux["resources"] == {"devices": [{"allow": False, "access": "rwm"}], "cpu": {"shares": 2}}
    assert linux["cgroupsPath"] == f"/k8s.io/{POD}"
    assert "seccomp" not in linux
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]


@pytest.mark.behaviour("NSP-01", "NSP-02", "NSP-04")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"mount": "", "network": "/run/netns/x", "uts": "", "pid": "", "ipc": ""}),
        ({"network": NODE}, {"mount": "", "pid": "", "ipc": ""}),
        ({"pid": NODE}, {"mount": "", "network": "/run/netns/x", "uts": "", "ipc": ""}),
        ({"ipc": NODE}, {"mount": "", "network": "/run/netns/x", "uts": "", "pid": ""}),
        ({"pid": NamespaceMode.CONTAINER, "network": NODE, "ipc": NODE}, {"mount": "", "pid": ""}),
        ({"userns": UserNamespace(NODE), "network": NODE}, {"mount": "", "pid": "", "ipc": ""}),
    ],
)
def test_namespaces(given: dict[str, Any], expected: dict[str, str]) -> None:
    assert namespaces(sandbox_document(sandbox(options(**given)))) == expected


@pytest.mark.behaviour("NSP-07")
@pytest.mark.parametrize("path", ["", "/pinned/user"])
def test_user_namespace(path: str) -> None:
    document = sandbox_document(sandbox(options(userns=USERNS)), userns_path=path)
    assert namespaces(document)["user"] == path
    line = {"containerID": 0, "hostID": 100_000, "size": 65_536}
    assert document["linux"]["uidMappings"] == document["linux"]["gidMappings"] == [line]


def test_network_without_a_path_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="network namespace"):
        sandbox_document(netns_path="")


@pytest.mark.behaviour("RUN-09")
def test_hostname_of_the_node_is_left_alone() -> None:
    assert "hostname" not in sandbox_document(sandbox(options(network=NODE), hostname="ignored"))
    assert "hostname" not in sandbox_document(sandbox())


@pytest.mark.behaviour("RUN-14", "RUN-15")
@pytest.mark.parametrize(
    ("security", "given", "facts", "expected"),
    [
        (SandboxSecurity(), {}, {}, {"port": "0", "ping": "0 2147483647"}),
        (SandboxSecurity(), {"net.ipv4.ip_unprivileged_port_start": "80"}, {}, {"port": "80", "ping": "0 2147483647"}),
        (SandboxSecurity(), {"kernel.sem": "1"}, {}, {"port": "0", "ping": "0 2147483647", "kernel.sem": "1"}),
        (options(network=NODE), {}, {}, {}),
        (options(userns=USERNS), {}, {}, {"port": "0"}),
        (SandboxSecurity(), {}, {"in_user_namespace": True}, {"port": "0"}),
    ],
)
def test_sysctls(
    security: SandboxSecurity, given: dict[str, str], facts: dict[str, Any], expected: dict[str, str]
) -> None:
    document = sandbox_document(sandbox(security, sysctls=given), facts=replace(FACTS, **facts))
    names = {"port": "net.ipv4.ip_unprivileged_port_start", "ping": "net.ipv4.ping_group_range"}
    assert document["linux"]["sysctl"] == {names.get(key, key): value for key, value in expected.items()}


@pytest.mark.behaviour("MNT-18", "NSP-04")
def test_mounts() -> None:
    mounts = mounts_by_place(sandbox_document())
    assert mounts.keys() == {"/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/dev/shm", "/etc/resolv.conf"}
    assert mounts["/dev/shm"]["source"] == "/pod/shm"
    assert mounts["/dev/shm"]["options"] == ["rbind", "ro", "nosuid", "nodev", "noexec"]
    assert "ro" in mounts["/sys"]["options"]
    host = mounts_by_place(sandbox_document(files=replace(FILES, shm="/dev/shm", resolv_conf="")))
    assert host["/dev/shm"]["source"] == "/dev/shm"
    assert "/etc/resolv.conf" not in host
    privileged = mounts_by_place(sandbox_document(sandbox(SandboxSecurity(privileged=True))))
    assert "rw" in privileged["/sys"]["options"]


@pytest.mark.behaviour("RUN-12")
@pytest.mark.parametrize(
    ("parent", "systemd", "expected"),
    [
        ("", False, f"/ns/{POD}"),
        ("/kubepods/pod1", False, f"/kubepods/pod1/{POD}"),
        ("kubepods/pod1/", False, f"/kubepods/pod1/{POD}"),
        ("", True, f":cri-containerd:{POD}"),
        ("/kubepods.slice/kubepods-pod1.slice", True, f"kubepods-pod1.slice:cri-containerd:{POD}"),
        ("kubepods-pod1.slice", True, f"kubepods-pod1.slice:cri-containerd:{POD}"),
    ],
)
def test_cgroups_path(parent: str, systemd: bool, expected: str) -> None:
    handler = replace(HANDLER, systemd_cgroup=systemd)
    document = sandbox_document(sandbox(cgroup_parent=parent), handler=handler, namespace="ns")
    assert document["linux"]["cgroupsPath"] == expected


@pytest.mark.parametrize(
    ("parent", "systemd"), [("/kubepods/pod1", True), (".slice", True), ("/kubepods.slice/kubepods-pod1.slice", False)]
)
def test_cgroup_parent_of_the_other_driver_is_refused(parent: str, systemd: bool) -> None:
    with pytest.raises(InvalidArgument, match="cgroup parent"):
        sandbox_document(sandbox(cgroup_parent=parent), handler=replace(HANDLER, systemd_cgroup=systemd))


@pytest.mark.behaviour("RUN-16")
def test_annotations() -> None:
    given = {"io.katacontainers.x": "1", "io.katacontainers/y": "2", "other": "3"}
    spec = sandbox(
        annotations=given,
        log_directory="/logs",
        resources=Resources(cpu_shares=7, memory_limit_bytes=9, cpu_period_us=1),
    )
    handler = replace(HANDLER, pod_annotations=("io.katacontainers.*", "absent"))
    assert sandbox_document(spec, handler=handler, image_name="pause:1")["annotations"] == {
        "io.katacontainers.x": "1",
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.sandbox-id": POD,
        "io.kubernetes.cri.sandbox-name": "web",
        "io.kubernetes.cri.sandbox-namespace": "default",
        "io.kubernetes.cri.sandbox-uid": "uid-1",
        "io.kubernetes.cri.sandbox-log-directory": "/logs",
        "io.kubernetes.cri.podsandbox.image-name": "pause:1",
        "io.kubernetes.cri.sandbox-cpu-period": "1",
        "io.kubernetes.cri.sandbox-cpu-quota": "0",
        "io.kubernetes.cri.sandbox-cpu-shares": "7",
        "io.kubernetes.cri.sandbox-memory": "9",
    }
    assert "io.kubernetes.cri.sandbox-memory" not in sandbox_document()["annotations"]


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("*", "a.b", True),
        ("*", "a/b", False),
        ("*/*", "a/b", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("A", "a", False),
    ],
)
def test_annotation_patterns(pattern: str, key: str, matches: bool) -> None:
    handler = replace(HANDLER, pod_annotations=(pattern,))
    annotations = sandbox_document(sandbox(annotations={key: "x"}), handler=handler)["annotations"]
    assert (key in annotations) is matches


@pytest.mark.behaviour("SCC-06")
def test_seccomp_of_the_sandbox() -> None:
    profile = SecurityProfile(ProfileType.RUNTIME_DEFAULT)
    linux = sandbox_document(sandbox(SandboxSecurity(seccomp=profile)))["linux"]
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "seccomp" not in sandbox_document(sandbox(SandboxSecurity(seccomp=profile, privileged=True)))["linux"]


def test_only_a_configured_pause_image_may_use_other_instruction_sets() -> None:
    pod = sandbox(SandboxSecurity(seccomp=SecurityProfile(ProfileType.RUNTIME_DEFAULT)))
    built_in = sandbox_document(pod)["linux"]["seccomp"]
    configured = sandbox_document(pod, image_name="pause:1")["linux"]["seccomp"]
    assert built_in["architectures"] == []
    assert configured["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert built_in["syscalls"] == configured["syscalls"]


@pytest.mark.parametrize(("least", "expected"), [(-1000, -998), (0, 0), (300, 300)])
def test_oom_score_stays_within_the_engines_rights(least: int, expected: int) -> None:
    document = sandbox_document(facts=replace(FACTS, least_oom_score_adj=least))
    assert document["process"]["oomScoreAdj"] == expected


def test_configured_pause_image() -> None:
    image = ImageConfig(env=("A=1", "A=2"), entrypoint=("/p",), cmd=("-v",), working_dir="x")
    process = sandbox_document(image=image)["process"]
    assert (process["args"], process["env"], process["cwd"]) == (["/p", "-v"], ["A=2"], "/x")
    with pytest.raises(InvalidArgument, match="pause image"):
        sandbox_document(image=ImageConfig())


def test_labels() -> None:
    document = sandbox_document(labels=SelinuxLabels("u:r:t:s0", "u:o:f:s0"))
    assert document["process"]["selinuxLabel"] == "u:r:t:s0"
    assert document["linux"]["mountLabel"] == "u:o:f:s0"


def test_base_spec_of_a_handler_is_kept_where_nothing_is_asked() -> None:
    base: Spec = {
        "ociVersion": "1.1.0",
        "process": {"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 5, "soft": 5}], "apparmorProfile": "mine"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/run", "type": "tmpfs"},
        ],
        "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "namespaces": [{"type": "cgroup"}]},
        "hooks": {"prestart": [{"path": "/x"}]},
        "hostname": "base",
    }
    before = json.dumps(base)
    document = sandbox_document(handler=HandlerOptions(base_runtime_spec=base))
    assert json.dumps(base) == before
    assert document["process"]["rlimits"][0]["hard"] == 5
    assert document["process"]["apparmorProfile"] == "mine"
    assert document["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_ALLOW"}
    assert document["hooks"] == base["hooks"]
    assert document["ociVersion"] == "1.1.0"
    assert "hostname" not in document
    assert mounts_by_place(document).keys() == {"/proc", "/dev/shm", "/etc/resolv.conf"}
    assert "cgroup" not in namespaces(document)
