"""Limits and devices of containers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cri_dockerd_py.backends.cdi.edits import CdiDeviceNode, CdiEdits, CdiHook, CdiMount
from cri_dockerd_py.backends.containerd.oci.facts import DeviceNode
from cri_dockerd_py.backends.containerd.oci.resources import linux_resources
from cri_dockerd_py.backends.users import ResolvedUser
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.resources import HugepageLimit, Resources
from cri_dockerd_py.model.security import (
    ContainerSecurity,
    IdMapping,
    NamespaceMode,
    UserNamespace,
)
from tests.backends.containerd.oci.values import (
    FACTS,
    HANDLER,
    OWN_PID,
    Spec,
    container,
    container_document,
    mounts_by_place,
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


@pytest.mark.behaviour("RES-01", "RES-02", "RES-04", "RES-05", "RES-06", "UCR-01", "UCR-04")
@pytest.mark.parametrize(
    ("given", "facts", "expected"),
    [
        (Resources(), {}, {}),
        (Resources(cpuset_cpus="0-1"), {}, {"cpu": {"cpus": "0-1"}}),
        (
            Resources(cpu_period_us=1, cpu_quota_us=-1, cpu_shares=2, cpuset_mems="0"),
            {},
            {"cpu": {"period": 1, "quota": -1, "shares": 2, "mems": "0"}},
        ),
        (Resources(memory_limit_bytes=5), {}, {"memory": {"limit": 5, "swap": 5}}),
        (Resources(memory_limit_bytes=5), {"swap_accounting": False}, {"memory": {"limit": 5}}),
        (Resources(memory_limit_bytes=5, memory_swap_limit_bytes=9), {}, {"memory": {"limit": 5, "swap": 9}}),
        (Resources(memory_limit_bytes=5, memory_swap_limit_bytes=-1), {}, {"memory": {"limit": 5, "swap": -1}}),
        (Resources(memory_swap_limit_bytes=9), {}, {"memory": {"swap": 9}}),
        (
            Resources(hugepage_limits=(HugepageLimit("2MB", 0), HugepageLimit("1GB", 5))),
            {"hugepage_sizes": frozenset({"2MB"})},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
        ),
        (Resources(hugepage_limits=(HugepageLimit("2MB", 0),)), {}, {}),
        (Resources(unified={"memory.oom.group": "1"}), {}, {"unified": {"memory.oom.group": "1"}}),
    ],
)
def test_limits(given: Resources, facts: dict[str, Any], expected: Spec) -> None:
    host = replace(FACTS, **facts)
    assert linux_resources(given, host) == expected
    resources = container_document(container(resources=given), facts=host)["linux"]["resources"]
    assert resources == {**expected, "devices": [DENY_ALL]}


@pytest.mark.behaviour("RES-05")
@pytest.mark.parametrize("key", ["memory/x", "cgroup.procs", "memory.reclaim", "../memory.max", "memory.", "io"])
def test_unified_keys_that_are_no_limits(key: str) -> None:
    with pytest.raises(InvalidArgument, match="cgroup v2"):
        linux_resources(Resources(unified={key: "1"}), FACTS)
    with pytest.raises(InvalidArgument, match="need cgroup v2"):
        linux_resources(Resources(unified={"memory.high": "1"}), replace(FACTS, cgroup_version=1))


@pytest.mark.behaviour("RES-07")
@pytest.mark.parametrize(("asked", "least", "score"), [(-997, -1000, -997), (-997, 0, 0), (1000, 0, 1000), (0, 50, 50)])
def test_oom_score(asked: int, least: int, score: int) -> None:
    spec = container(resources=Resources(oom_score_adj=asked))
    assert container_document(spec, facts=replace(FACTS, least_oom_score_adj=least))["process"]["oomScoreAdj"] == score


@pytest.mark.behaviour("DEV-01", "DEV-02", "DEV-03")
@pytest.mark.parametrize(
    ("privileged", "without_host", "all_allowed", "paths", "rules"),
    [
        (False, False, False, ["/dev/mine"], 2),
        (False, True, True, ["/dev/mine"], 2),
        (True, False, False, ["/dev/null", "/dev/mine"], 0),
        (True, True, False, ["/dev/mine"], 2),
        (True, True, True, ["/dev/mine"], 0),
    ],
)
def test_devices(privileged: bool, without_host: bool, all_allowed: bool, paths: list[str], rules: int) -> None:
    handler = replace(
        HANDLER,
        privileged_without_host_devices=without_host,
        privileged_without_host_devices_all_devices_allowed=all_allowed,
    )
    linux = container_document(
        container(secured(privileged=privileged)), handler=handler, devices=[MINE], host_devices=[NULL]
    )["linux"]
    assert [entry["path"] for entry in linux["devices"]] == paths
    assert linux["devices"][-1] == {
        "path": "/dev/mine", "type": "b", "major": 8, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 6,
    }  # fmt: skip
    allow_mine = {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"}
    assert linux["resources"]["devices"] == ([DENY_ALL, allow_mine] if rules else [ALLOW_ALL])


def test_device_asked_for_twice_is_made_once() -> None:
    other = replace(MINE, major=9)
    linux = container_document(devices=[MINE, other])["linux"]
    assert [entry["major"] for entry in linux["devices"]] == [9]


@pytest.mark.behaviour("CRE-18")
def test_cdi_edits() -> None:
    edits = CdiEdits(
        device_nodes=(
            CdiDeviceNode("/dev/mine", "/dev/real", "rw", "c", 7, 1, 0o620, 3, 4),
            CdiDeviceNode("/dev/other", "/dev/other", "m", "b", 7, 2),
        ),
        mounts=(CdiMount("/host/lib", "/usr//lib/gpu", ("ro", "bind")), CdiMount("/host/x", "/etc/hosts")),
        hooks=(CdiHook("createContainer", "/bin/h", ("h", "x"), ("A=b",), 5), CdiHook("createContainer", "/bin/i")),
        additional_gids=(44, 0),
    )
    document = container_document(devices=[MINE], cdi=edits, user=ResolvedUser(1, 2))
    devices = {entry["path"]: entry for entry in document["linux"]["devices"]}
    assert devices["/dev/mine"] == {
        "path": "/dev/mine", "type": "c", "major": 7, "minor": 1, "fileMode": 0o620, "uid": 3, "gid": 4,
    }  # fmt: skip
    assert (devices["/dev/other"]["uid"], devices["/dev/other"]["gid"], devices["/dev/other"]["fileMode"]) == (
        1,
        2,
        0o666,
    )
    assert document["linux"]["resources"]["devices"][2:] == [
        {"allow": True, "type": "c", "major": 7, "minor": 1, "access": "rw"},
        {"allow": True, "type": "b", "major": 7, "minor": 2, "access": "m"},
    ]
    mounts = mounts_by_place(document)
    assert mounts["/usr/lib/gpu"]["options"] == ["ro", "bind"]
    assert mounts["/etc/hosts"] == {
        "destination": "/etc/hosts", "type": "bind", "source": "/host/x", "options": ["rbind", "ro"],
    }  # fmt: skip
    assert document["hooks"] == {
        "createContainer": [
            {"path": "/bin/h", "args": ["h", "x"], "env": ["A=b"], "timeout": 5},
            {"path": "/bin/i"},
        ]
    }
    assert document["process"]["user"]["additionalGids"] == [0, 2, 44]


@pytest.mark.parametrize(
    "node", [CdiDeviceNode("/dev/x", "/dev/x"), CdiDeviceNode("/dev/x", "/dev/x", "rw", "p", 0, 0)]
)
def test_cdi_node_that_is_no_device_is_refused(node: CdiDeviceNode) -> None:
    with pytest.raises(InvalidArgument, match="CDI device node"):
        container_document(cdi=CdiEdits(device_nodes=(node,)))
