"""Specs of containers: namespaces, privileges, cgroups, annotations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cri_dockerd_py.backends.containerd.oci.capabilities import DEFAULT
from cri_dockerd_py.backends.containerd.oci.facts import DeviceNode, SelinuxLabels
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import ImageSpec
from cri_dockerd_py.model.security import (
    Capabilities,
    ContainerSecurity,
    IdMapping,
    NamespaceMode,
    NamespaceOptions,
    SandboxSecurity,
    UserNamespace,
)
from tests.backends.containerd.oci.values import (
    ALL,
    CONTAINER,
    FACTS,
    HANDLER,
    OWN_PID,
    POD,
    Spec,
    container,
    container_document,
    mounts_by_place,
    sandbox,
)

IDS = (IdMapping(100_000, 0, 65_536),)
OTHER_IDS = (IdMapping(200_000, 0, 65_536),)
USERNS = UserNamespace(NamespaceMode.POD, IDS, IDS)
DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
NULL = DeviceNode("/dev/null", "c", 1, 3, 0o600, 5, 6)
MINE = DeviceNode("/dev/mine", "b", 8, 0, 0o660, 0, 6, "r")


def secured(**fields: Any) -> ContainerSecurity:
    """Return a security context with a pid namespace of its own."""
    return ContainerSecurity(**{"namespaces": OWN_PID, **fields})


def namespaces(document: Spec) -> dict[str, str]:
    """Return the paths of a spec's namespaces by kind, "" for new ones."""
    return {item["type"]: item.get("path", "") for item in document["linux"]["namespaces"]}


@pytest.mark.behaviour("NSP-02", "NSP-03")
@pytest.mark.parametrize(
    ("mode", "path"),
    [
        (NamespaceMode.POD, "/proc/77/ns/pid"),
        (NamespaceMode.CONTAINER, ""),
        (NamespaceMode.NODE, "/proc/77/ns/pid"),
        (NamespaceMode.TARGET, "/proc/99/ns/pid"),
    ],
)
def test_namespaces(mode: NamespaceMode, path: str) -> None:
    security = ContainerSecurity(namespaces=NamespaceOptions(pid=mode, target_id="t"))
    document = container_document(container(security), target_pid=99)
    assert namespaces(document) == {
        "mount": "",
        "network": "/proc/77/ns/net",
        "ipc": "/proc/77/ns/ipc",
        "uts": "/proc/77/ns/uts",
        "pid": path,
        "cgroup": "",
    }


@pytest.mark.behaviour("MNT-18", "CAP-04")
def test_cgroup_namespace_only_on_v2_and_unprivileged() -> None:
    assert "cgroup" not in namespaces(container_document(container(secured(privileged=True))))
    assert "cgroup" not in namespaces(container_document(facts=replace(FACTS, cgroup_version=1)))


@pytest.mark.behaviour("NSP-02")
@pytest.mark.parametrize("fields", [{"sandbox_pid": 0}, {"target_pid": 0}])
def test_namespace_of_a_dead_process_is_refused(fields: dict[str, int]) -> None:
    security = ContainerSecurity(namespaces=NamespaceOptions(pid=NamespaceMode.TARGET, target_id="t"))
    with pytest.raises(InvalidArgument, match="cannot be joined"):
        container_document(container(security), **{"target_pid": 99, **fields})


@pytest.mark.behaviour("NSP-07")
def test_user_namespace() -> None:
    options = NamespaceOptions(pid=NamespaceMode.CONTAINER, userns=USERNS)
    pod = sandbox(SandboxSecurity(namespaces=options))
    document = container_document(container(ContainerSecurity(namespaces=options)), sandbox=pod)
    line = {"containerID": 0, "hostID": 100_000, "size": 65_536}
    assert namespaces(document)["user"] == "/proc/77/ns/user"
    assert document["linux"]["uidMappings"] == document["linux"]["gidMappings"] == [line]
    mounts = mounts_by_place(document)
    for name in ("hosts", "hostname", "resolv.conf"):
        assert mounts[f"/etc/{name}"]["uidMappings"] == mounts[f"/etc/{name}"]["gidMappings"] == [line]
    assert "uidMappings" not in mounts["/dev/shm"]
    unable = replace(HANDLER, features=replace(HANDLER.features, idmapped_mounts=False))
    document = container_document(container(ContainerSecurity(namespaces=options)), sandbox=pod, handler=unable)
    assert "uidMappings" not in mounts_by_place(document)["/etc/hosts"]


@pytest.mark.behaviour("NSP-07")
@pytest.mark.parametrize(
    ("own", "of_pod"),
    [
        (USERNS, None),
        (None, USERNS),
        (USERNS, UserNamespace(NamespaceMode.NODE)),
        (UserNamespace(NamespaceMode.POD, IDS, OTHER_IDS), USERNS),
    ],
)
def test_user_namespace_of_another_pod_is_refused(own: UserNamespace | None, of_pod: UserNamespace | None) -> None:
    spec = container(ContainerSecurity(namespaces=NamespaceOptions(userns=own)))
    pod = sandbox(SandboxSecurity(namespaces=NamespaceOptions(userns=of_pod)))
    with pytest.raises(InvalidArgument, match="differ"):
        container_document(spec, sandbox=pod)


@pytest.mark.behaviour("CAP-01", "CAP-02", "CAP-03", "CAP-04")
@pytest.mark.parametrize(
    ("fields", "privileged", "expected"),
    [
        ({}, False, DEFAULT),
        ({"add": ("NET_ADMIN",)}, False, DEFAULT | {"CAP_NET_ADMIN"}),
        ({"add": ("net_admin", "CAP_BPF")}, False, DEFAULT | {"CAP_NET_ADMIN", "CAP_BPF"}),
        ({"drop": ("NET_RAW",)}, False, DEFAULT - {"CAP_NET_RAW"}),
        ({"add": ("NET_RAW",), "drop": ("NET_RAW",)}, False, DEFAULT - {"CAP_NET_RAW"}),
        ({"add": ("ALL",)}, False, ALL),
        ({"add": ("ALL",), "drop": ("BPF",)}, False, ALL - {"CAP_BPF"}),
        ({"drop": ("ALL",)}, False, set()),
        ({"add": ("ALL", "BPF"), "drop": ("ALL",)}, False, {"CAP_BPF"}),
        ({"drop": ("ALL",)}, True, ALL),
    ],
)
def test_capabilities(fields: dict[str, Any], privileged: bool, expected: set[str]) -> None:
    security = secured(capabilities=Capabilities(**fields), privileged=privileged)
    sets = container_document(container(security))["process"]["capabilities"]
    for name in ("bounding", "effective", "permitted"):
        assert set(sets[name]) == expected
        assert sets[name] == sorted(sets[name])
    assert sets["inheritable"] == sets["ambient"] == []


@pytest.mark.behaviour("CAP-02")
@pytest.mark.parametrize(
    ("fields", "ambient", "bounding"),
    [
        ({"add_ambient": ("BPF",)}, {"CAP_BPF"}, DEFAULT | {"CAP_BPF"}),
        ({"add_ambient": ("BPF", "KILL"), "drop": ("ALL", "KILL")}, {"CAP_BPF"}, {"CAP_BPF"}),
        ({"add_ambient": ("ALL",), "drop": ("BPF",)}, ALL - {"CAP_BPF"}, ALL - {"CAP_BPF"}),
    ],
)
def test_ambient_capabilities(fields: dict[str, Any], ambient: set[str], bounding: set[str]) -> None:
    sets = container_document(container(secured(capabilities=Capabilities(**fields))))["process"]["capabilities"]
    assert set(sets["ambient"]) == set(sets["inheritable"]) == ambient
    assert set(sets["bounding"]) == set(sets["permitted"]) == set(sets["effective"]) == bounding


def test_defaults_that_the_engine_has_not_are_left_out() -> None:
    facts = replace(FACTS, capabilities=frozenset({"CAP_KILL", "CAP_CHOWN", "CAP_BPF"}))
    sets = container_document(facts=facts)["process"]["capabilities"]
    assert sets["bounding"] == ["CAP_CHOWN", "CAP_KILL"]


@pytest.mark.behaviour("CAP-04", "CAP-05", "CAP-06", "CAP-07")
def test_paths_and_privileges() -> None:
    fields = {"masked_paths": ("/proc/kcore",), "readonly_paths": ("/proc/sys",)}
    document = container_document(container(secured(**fields, no_new_privs=True, readonly_rootfs=True)))
    assert document["linux"]["maskedPaths"] == ["/proc/kcore"]
    assert document["linux"]["readonlyPaths"] == ["/proc/sys"]
    assert document["process"]["noNewPrivileges"] is True
    assert document["root"]["readonly"] is True
    privileged = container_document(container(secured(**fields, privileged=True)))
    assert privileged["linux"]["maskedPaths"] == privileged["linux"]["readonlyPaths"] == []
    assert privileged["root"]["readonly"] is False


def test_labels() -> None:
    document = container_document(labels=SelinuxLabels("u:r:t:s0", "u:o:f:s0"))
    assert document["process"]["selinuxLabel"] == "u:r:t:s0"
    assert document["linux"]["mountLabel"] == "u:o:f:s0"


def test_cgroups_path_is_below_the_pods_parent() -> None:
    document = container_document(sandbox=sandbox(cgroup_parent="/kubepods/pod1"))
    assert document["linux"]["cgroupsPath"] == f"/kubepods/pod1/{CONTAINER}"
    systemd = replace(HANDLER, systemd_cgroup=True)
    document = container_document(sandbox=sandbox(cgroup_parent="/a.slice/a-b.slice"), handler=systemd)
    assert document["linux"]["cgroupsPath"] == f"a-b.slice:cri-containerd:{CONTAINER}"


def test_annotations() -> None:
    spec = replace(
        container(annotations={"own.x": "1", "secret": "2"}),
        image=ImageSpec("sha256:1", user_specified_image="busybox:1"),
    )
    handler = replace(HANDLER, pod_annotations=("pod.*",), container_annotations=("own.*",))
    document = container_document(spec, sandbox=sandbox(annotations={"pod.y": "3"}), handler=handler)
    assert document["annotations"] == {
        "own.x": "1",
        "pod.y": "3",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": POD,
        "io.kubernetes.cri.sandbox-name": "web",
        "io.kubernetes.cri.sandbox-namespace": "default",
        "io.kubernetes.cri.sandbox-uid": "uid-1",
        "io.kubernetes.cri.container-name": "app",
        "io.kubernetes.cri.image-name": "busybox:1",
    }
    assert container_document()["annotations"]["io.kubernetes.cri.image-name"] == "sha256:1"
