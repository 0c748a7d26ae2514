"""Mounts of containers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cri_dockerd_py.backends.containerd.oci.facts import PodFiles, RuntimeFeatures
from cri_dockerd_py.backends.mount_table import MountInfo
from cri_dockerd_py.errors import InvalidArgument, Unimplemented
from cri_dockerd_py.model.container import Mount, Propagation
from cri_dockerd_py.model.security import ContainerSecurity, IdMapping
from tests.backends.containerd.oci.values import (
    FACTS,
    HANDLER,
    OWN_PID,
    Spec,
    container,
    container_document,
    mounts_by_place,
)

SHARED = [MountInfo("/", True, False)]
SLAVE = [MountInfo("/", False, True)]
PRIVATE = [MountInfo("/", False, False)]
DEFAULTS = ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup"]


def mounted(*mounts: Mount, **fields: Any) -> Spec:
    """Return the spec of a container with these mounts."""
    return container_document(container(mounts=mounts), **fields)


def privileged(**fields: Any) -> Spec:
    """Return the spec of a privileged container."""
    return container_document(container(ContainerSecurity(namespaces=OWN_PID, privileged=True)), **fields)


@pytest.mark.behaviour("MNT-18")
def test_usual_mounts_in_their_order() -> None:
    places = [mount["destination"] for mount in mounted()["mounts"]]
    files = ["/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]
    assert places[: len(DEFAULTS)] == DEFAULTS
    assert sorted(places[len(DEFAULTS) :]) == files


@pytest.mark.behaviour("MNT-18", "CAP-04")
def test_sys_and_cgroups_are_readonly_unless_privileged() -> None:
    plain, all_rights = mounts_by_place(mounted()), mounts_by_place(privileged())
    for place in ("/sys", "/sys/fs/cgroup"):
        assert "ro" in plain[place]["options"]
        assert "rw" in all_rights[place]["options"]
        assert "ro" not in all_rights[place]["options"]
    writable = mounts_by_place(mounted(handler=replace(HANDLER, cgroup_writable=True)))
    assert writable["/sys/fs/cgroup"]["options"] == ["nosuid", "noexec", "nodev", "relatime", "rw"]


def test_options_of_the_hosts_cgroup_mount_are_repeated_where_it_is_shared() -> None:
    facts = replace(FACTS, cgroup_mount_options=("nsdelegate", "memory_recursiveprot"))
    assert "nsdelegate" in mounts_by_place(privileged(facts=facts))["/sys/fs/cgroup"]["options"]
    assert "nsdelegate" not in mounts_by_place(mounted(facts=facts))["/sys/fs/cgroup"]["options"]


@pytest.mark.behaviour("CAP-06", "NSP-04")
@pytest.mark.parametrize(("readonly", "mode"), [(False, "rw"), (True, "ro")])
def test_files_of_the_pod(readonly: bool, mode: str) -> None:
    spec = container(ContainerSecurity(namespaces=OWN_PID, readonly_rootfs=readonly))
    mounts = mounts_by_place(container_document(spec))
    for name in ("hostname", "hosts", "resolv.conf"):
        entry = mounts[f"/etc/{name}"]
        assert (entry["type"], entry["source"]) == ("bind", f"/pod/{name}")
        assert entry["options"] == ["rbind", "rprivate", mode]
    assert mounts["/dev/shm"]["source"] == "/pod/shm"
    assert mounts["/dev/shm"]["options"] == ["rbind", "rprivate", "rw"]


def test_missing_files_of_the_pod_are_left_out() -> None:
    mounts = mounts_by_place(mounted(files=PodFiles()))
    assert not [place for place in mounts if place.startswith("/etc/")]
    assert mounts["/dev/shm"]["type"] == "tmpfs"


@pytest.mark.behaviour("MNT-01")
def test_parents_come_before_children() -> None:
    deep, high, middle = Mount("/a/b/c", "/3"), Mount("/a//", "/1"), Mount("/a/./b/", "/2")
    same = Mount("/b", "/4")
    places = [mount["destination"] for mount in mounted(deep, high, middle, same)["mounts"]]
    assert [place for place in places if place[:2] in ("/a", "/b")] == ["/a", "/b", "/a/b", "/a/b/c"]


@pytest.mark.behaviour("MNT-05")
@pytest.mark.parametrize(
    "place",
    ["/etc/hosts", "/etc//hosts/", "/etc/resolv.conf", "/etc/hostname", "/dev/shm", "/proc", "/sys"],
)
def test_mount_of_the_caller_wins(place: str) -> None:
    mounts = mounted(Mount(place, "/mine"))["mounts"]
    wanted = place.replace("//", "/").rstrip("/")
    assert [mount["source"] for mount in mounts if mount["destination"] == wanted] == ["/mine"]


@pytest.mark.behaviour("MNT-05")
def test_mount_on_dev_replaces_what_is_below() -> None:
    places = [mount["destination"] for mount in mounted(Mount("/dev", "/mine"))["mounts"]]
    assert {"/dev/pts", "/dev/mqueue"}.isdisjoint(places)
    assert places.index("/dev") < places.index("/dev/shm")
    assert "/device" in [mount["destination"] for mount in mounted(Mount("/device", "/x"))["mounts"]]


@pytest.mark.behaviour("CRE-17")
def test_volumes_of_the_image() -> None:
    mounts = mounts_by_place(mounted(Mount("/covered", "/mine"), volumes={"/data/": "/v/1", "/covered": "/v/2"}))
    assert mounts["/data"]["source"] == "/v/1"
    assert mounts["/data"]["options"] == ["rbind", "rprivate", "rw"]
    assert mounts["/covered"]["source"] == "/mine"


@pytest.mark.behaviour("MNT-06", "MNT-07", "MNT-08")
@pytest.mark.parametrize(
    ("fields", "options", "propagation"),
    [
        ({}, ["rbind", "rprivate", "rw"], None),
        ({"readonly": True}, ["rbind", "rprivate", "ro"], None),
        ({"readonly": True, "recursive_read_only": True}, ["rbind", "rprivate", "rro"], None),
        ({"propagation": Propagation.HOST_TO_CONTAINER}, ["rbind", "rslave", "rw"], "rslave"),
        ({"propagation": Propagation.BIDIRECTIONAL, "readonly": True}, ["rbind", "rshared", "ro"], "rshared"),
    ],
)
def test_bind_options(fields: dict[str, Any], options: list[str], propagation: str | None) -> None:
    document = mounted(Mount("/m", "/h", **fields), mount_table=SHARED)
    assert mounts_by_place(document)["/m"] == {
        "destination": "/m", "type": "bind", "source": "/h", "options": options,
    }  # fmt: skip
    assert document["linux"].get("rootfsPropagation") == propagation


@pytest.mark.behaviour("MNT-08")
def test_root_is_shared_when_one_mount_is_both_ways() -> None:
    ways = (Propagation.HOST_TO_CONTAINER, Propagation.BIDIRECTIONAL, Propagation.PRIVATE)
    mounts = [Mount(f"/{way.name}", "/h", propagation=way) for way in ways]
    assert mounted(*mounts, mount_table=SHARED)["linux"]["rootfsPropagation"] == "rshared"


@pytest.mark.behaviour("MNT-09")
@pytest.mark.parametrize(
    ("propagation", "table", "works"),
    [
        (Propagation.HOST_TO_CONTAINER, SLAVE, True),
        (Propagation.HOST_TO_CONTAINER, PRIVATE, False),
        (Propagation.BIDIRECTIONAL, SLAVE, False),
        (Propagation.BIDIRECTIONAL, PRIVATE, False),
        (Propagation.PRIVATE, PRIVATE, True),
    ],
)
def test_propagation_needs_its_source(propagation: Propagation, table: list[MountInfo], works: bool) -> None:
    mount = Mount("/m", "/h", propagation=propagation)
    if works:
        mounted(mount, mount_table=table)
    else:
        with pytest.raises(InvalidArgument, match="make-rshared"):
            mounted(mount, mount_table=table)


@pytest.mark.behaviour("MNT-07", "MNT-13")
def test_what_the_runtime_cannot_do_is_refused() -> None:
    handler = replace(HANDLER, features=RuntimeFeatures())
    with pytest.raises(InvalidArgument, match=r"^RROUnsupported"):
        mounted(Mount("/m", "/h", readonly=True, recursive_read_only=True), handler=handler)
    with pytest.raises(InvalidArgument, match="needs readonly"):
        mounted(Mount("/m", "/h", recursive_read_only=True))
    ids = (IdMapping(100_000, 0, 1000),)
    mapped = Mount("/m", "/h", uid_mappings=ids, gid_mappings=ids)
    with pytest.raises(Unimplemented, match="ids of mounts"):
        mounted(mapped, handler=handler)
    entry = mounts_by_place(mounted(mapped))["/m"]
    assert entry["uidMappings"] == entry["gidMappings"] == [{"containerID": 0, "hostID": 100_000, "size": 1000}]


def test_base_spec_of_a_handler_gives_the_default_mounts() -> None:
    base = {"mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/extra", "type": "tmpfs"}]}
    mounts = mounts_by_place(mounted(handler=replace(HANDLER, base_runtime_spec=base)))
    assert "/extra" in mounts
    assert "/sys" not in mounts
    assert "/sys/fs/cgroup" in mounts
