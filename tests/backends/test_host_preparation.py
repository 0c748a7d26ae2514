"""Mounts, devices, CDI specs, profiles and cgroup files: what is read and made on the host."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cri_dockerd_py.backends.cdi.names import cdi_names
from cri_dockerd_py.backends.docker import cgroup_files
from cri_dockerd_py.backends.docker.cdi import docker_edits
from cri_dockerd_py.backends.docker.devices import device_entries
from cri_dockerd_py.backends.docker.mounts import check_mounts, mount_fields
from cri_dockerd_py.backends.docker.security_options import read_seccomp_profile
from cri_dockerd_py.backends.mount_sources import resolve_sources
from cri_dockerd_py.backends.mount_table import check_propagation, parse_mountinfo
from cri_dockerd_py.errors import InvalidArgument, NotFound, Unimplemented
from cri_dockerd_py.model.container import Device, ImageSpec, Mount, Propagation
from cri_dockerd_py.model.security import IdMapping, ProfileType, SecurityProfile

NEW, OLD = (1, 51), (1, 41)
MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /slave rw master:1 - tmpfs tmpfs rw
31 22 0:31 / /private rw - tmpfs tmpfs rw
32 31 0:32 / /private/with\\040space rw shared:7 master:1 - tmpfs tmpfs rw
33 22 0:33 / /covered rw shared:9 - tmpfs tmpfs rw
34 33 0:34 / /covered rw - tmpfs tmpfs rw
"""


# --- mounts


@pytest.mark.behaviour("MNT-01", "MNT-02", "MNT-03")
def test_sources_are_made_and_links_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("made/by/us")
    mounts = [
        Mount("/a/b/c", str(tmp_path / "link")),
        Mount("/a", str(tmp_path / "missing/deep")),
        Mount("/a/b/", str(tmp_path / "dangling")),
    ]
    resolved = resolve_sources(mounts)
    assert [mount.container_path for mount in resolved] == ["/a", "/a/b/", "/a/b/c"]
    assert [mount.host_path for mount in resolved] == [
        str(tmp_path / "missing/deep"),
        str(tmp_path / "made/by/us"),
        str(tmp_path / "real"),
    ]
    assert stat.S_IMODE((tmp_path / "missing/deep").stat().st_mode) == 0o755
    assert (tmp_path / "made/by/us").is_dir()


def test_source_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="cannot be used"):
        resolve_sources([Mount("/a", str(tmp_path / "file/below"))])


@pytest.mark.behaviour("MNT-09")
@pytest.mark.parametrize(
    ("path", "both", "to_container"),
    [
        ("/x", True, True),
        ("/slave/x", False, True),
        ("/private", False, False),
        ("/privateer", True, True),
        ("/private/with space/x", True, True),
        ("/covered/x", False, False),
    ],
)
def test_propagation_needs_a_shared_source(path: str, both: bool, to_container: bool) -> None:
    table = parse_mountinfo(MOUNTINFO)
    for propagation, allowed in (
        (Propagation.BIDIRECTIONAL, both),
        (Propagation.HOST_TO_CONTAINER, to_container),
        (Propagation.PRIVATE, True),
    ):
        mount = Mount("/m", path, propagation=propagation)
        if allowed:
            check_propagation(mount, table)
        else:
            with pytest.raises(InvalidArgument, match="make-rshared"):
                check_propagation(mount, table)


@pytest.mark.behaviour("MNT-06", "MNT-07", "MNT-08")
@pytest.mark.parametrize(
    ("mount", "new", "old"),
    [
        (Mount("/m", "/h"), {"CreateMountpoint": True}, {}),
        (Mount("/m", "/h", readonly=True), {"CreateMountpoint": True, "ReadOnlyNonRecursive": True}, {}),
        (
            Mount("/m", "/h", readonly=True, recursive_read_only=True),
            {"CreateMountpoint": True, "ReadOnlyForceRecursive": True, "Propagation": "rprivate"},
            {},
        ),
        (
            Mount("/m", "/h", propagation=Propagation.HOST_TO_CONTAINER),
            {"CreateMountpoint": True, "Propagation": "rslave"},
            {"Propagation": "rslave"},
        ),
        (
            Mount("/m", "/h", propagation=Propagation.BIDIRECTIONAL),
            {"CreateMountpoint": True, "Propagation": "rshared"},
            {"Propagation": "rshared"},
        ),
    ],
)
def test_bind_options(mount: Mount, new: dict[str, Any], old: dict[str, Any]) -> None:
    for api, options in ((NEW, new), (OLD, old)):
        (entry,) = mount_fields([mount], api, selinux=False)["Mounts"]
        assert entry.get("BindOptions", {}) == options
        assert entry.get("ReadOnly", False) is mount.readonly


@pytest.mark.behaviour("MNT-12")
def test_relabelling_is_left_to_docker_and_only_where_there_is_selinux() -> None:
    mount = Mount("/m", "/h", readonly=True, selinux_relabel=True, propagation=Propagation.HOST_TO_CONTAINER)
    odd = Mount("/n", "/with:colon", selinux_relabel=True)
    assert "Binds" not in mount_fields([mount], NEW, selinux=False)
    fields = mount_fields([mount, odd], NEW, selinux=True)
    assert fields["Binds"] == ["/h:/m:ro,Z,rslave"]
    assert [entry["Source"] for entry in fields["Mounts"]] == ["/with:colon"]


def test_image_mount_for_docker() -> None:
    mount = Mount("/m", readonly=True, image=ImageSpec("x", image_ref="sha256:1"), image_sub_path="a/b")
    assert mount_fields([mount], NEW, selinux=False)["Mounts"] == [
        {
            "Type": "image",
            "Source": "sha256:1",
            "Target": "/m",
            "ReadOnly": True,
            "ImageOptions": {"Subpath": "a/b"},
        }
    ]


@pytest.mark.behaviour("MNT-07", "MNT-13")
def test_mounts_that_docker_cannot_make() -> None:
    check_mounts([Mount("/m", "/h", readonly=True, recursive_read_only=True)], recursive_read_only=True)
    with pytest.raises(InvalidArgument, match=r"^RROUnsupported"):
        check_mounts([Mount("/m", "/h", readonly=True, recursive_read_only=True)], recursive_read_only=False)
    with pytest.raises(InvalidArgument, match="needs readonly"):
        check_mounts([Mount("/m", "/h", recursive_read_only=True)], recursive_read_only=True)
    with pytest.raises(Unimplemented, match="map ids"):
        check_mounts([Mount("/m", "/h", uid_mappings=(IdMapping(1, 0, 1),))], recursive_read_only=True)


# --- devices


@pytest.mark.behaviour("DEV-01")
def test_devices(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "dir/sub").mkdir(parents=True)
    os.mknod(tmp_path / "dir/sub/zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    (tmp_path / "dir/file").touch()
    entries = device_entries(
        [Device("/dev/x", str(tmp_path / "null"), "rw"), Device("/dev/all", str(tmp_path / "dir"), "rwm")]
    )
    assert entries == [
        {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"},
        {
            "PathOnHost": str(tmp_path / "dir/sub/zero"),
            "PathInContainer": "/dev/all/sub/zero",
            "CgroupPermissions": "rwm",
        },
    ]
    for path in ("missing", "dir/file"):
        with pytest.raises(InvalidArgument, match="device"):
            device_entries([Device("/dev/x", str(tmp_path / path), "r")])


@pytest.mark.behaviour("CRE-18")
def test_cdi_names() -> None:
    annotations = {"cdi.k8s.io/plugin": "v.com/gpu=1, v.com/gpu=0", "other": "v.com/gpu=9"}
    assert cdi_names(["v.com/gpu=0"], annotations) == ["v.com/gpu=0", "v.com/gpu=1"]
    for name in ("gpu", "v.com/gpu", "v.com/gpu=", "../x=1", "v.com/gpu=a b"):
        with pytest.raises(InvalidArgument, match="CDI"):
            cdi_names([name], {})


@pytest.mark.behaviour("CRE-18")
def test_cdi_specs_are_resolved_where_docker_does_not_know_cdi(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "run"
    first.mkdir()
    device = {
        "name": "0",
        "containerEdits": {
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}],
            "env": ["GPU=a=b"],
            "mounts": [{"hostPath": "/usr/lib/gpu", "containerPath": "/gpu", "options": ["ro", "bind"]}],
        },
    }
    spec = {"cdiVersion": "0.6.0", "kind": "v.com/gpu", "devices": [device], "containerEdits": {"env": ["ALL=1"]}}
    (first / "gpu.json").write_text(json.dumps(spec))
    edits = docker_edits(["v.com/gpu=0"], (first, second))
    assert edits.devices == (Device("/dev/gpu0", "/dev/null", "rw"),)
    assert edits.envs == (("ALL", "1"), ("GPU", "a=b"))
    assert edits.mounts == (Mount("/gpu", "/usr/lib/gpu", True),)
    assert docker_edits([], (first,)).devices == ()
    with pytest.raises(InvalidArgument, match=r"v\.com/gpu=1"):
        docker_edits(["v.com/gpu=1"], (first, second))
    device["containerEdits"] = {"hooks": [{"path": "/bin/x"}]}
    (first / "gpu.json").write_text(json.dumps(spec))
    with pytest.raises(InvalidArgument, match="hooks"):
        docker_edits(["v.com/gpu=0"], (first,))
    assert docker_edits(["v.com/gpu=0"], (first,), docker_knows=True).requests == ("v.com/gpu=0",)
    (first / "more.yaml").write_text("kind: 'v.com/net'\ndevices:\n- name: eth1\n  containerEdits: {env: [A=b]}\n")
    assert docker_edits(["v.com/net=eth1"], (first,)).envs == (("A", "b"),)
    for name in ("v.com/net=eth", "v.com/ne=eth1"):
        with pytest.raises(InvalidArgument, match="is in no file"):
            docker_edits([name], (first,), docker_knows=True)
    (first / "broken.json").write_text("{")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        docker_edits(["v.com/gpu=0"], (first,))


# --- seccomp


@pytest.mark.behaviour("SCC-04", "SCC-05")
async def test_seccomp_profile_is_passed_whole(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    document = {"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "x"}], "syscalls": []}
    path.write_text(json.dumps(document, indent=4))
    for reference in (str(path), f"localhost/{path}"):
        text = await read_seccomp_profile(SecurityProfile(ProfileType.LOCALHOST, reference))
        assert json.loads(text) == document
        assert "\n" not in text
    assert await read_seccomp_profile(SecurityProfile(ProfileType.RUNTIME_DEFAULT)) == ""
    assert await read_seccomp_profile(None) == ""


@pytest.mark.behaviour("SCC-05")
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "[" * 100_000])
async def test_bad_seccomp_profiles(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match="seccomp profile"):
        await read_seccomp_profile(SecurityProfile(ProfileType.LOCALHOST, str(path)))


@pytest.mark.behaviour("SCC-05")
async def test_seccomp_profile_that_is_no_ordinary_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "big").write_bytes(b" " * ((4 << 20) + 1))
    for reference in ("relative.json", str(tmp_path), str(tmp_path / "fifo"), str(tmp_path / "big"), "/missing"):
        with pytest.raises(InvalidArgument, match="seccomp profile"):
            await read_seccomp_profile(SecurityProfile(ProfileType.LOCALHOST, reference))


# --- cgroup files


@pytest.mark.behaviour("RES-05", "UCR-03")
def test_limits_are_written_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "memory.oom.group").write_text("0\n")
    (tmp_path / "memory.swap.max").write_text("max\n")
    before = cgroup_files.write_limits(tmp_path, {"memory.oom.group": "1", "memory.swap.max": "0"})
    assert before == {"memory.oom.group": "0", "memory.swap.max": "max"}
    assert (tmp_path / "memory.oom.group").read_text().startswith("1")
    with pytest.raises(InvalidArgument, match=r"memory\.bogus"):
        cgroup_files.write_limits(tmp_path, {"memory.oom.group": "0", "memory.bogus": "1"})
    assert (tmp_path / "memory.oom.group").read_text().startswith("1")
    assert not (tmp_path / "memory.bogus").exists()


def test_cgroup_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text("12:memory:/v1\n0::/kubepods/pod1/abc\n")
    assert cgroup_files.cgroup_of(7, proc=tmp_path, root=Path("/cg")) == Path("/cg/kubepods/pod1/abc")
    with pytest.raises(NotFound):
        cgroup_files.cgroup_of(8, proc=tmp_path)
    (tmp_path / "7/cgroup").write_text("12:memory:/v1\n")
    with pytest.raises(InvalidArgument, match="unified"):
        cgroup_files.cgroup_of(7, proc=tmp_path)
