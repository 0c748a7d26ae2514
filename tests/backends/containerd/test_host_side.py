"""What specs need from the host: sources, devices, profiles, labels."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.backends.containerd.host_side import asked_devices, host_devices, host_side
from cri_dockerd_py.backends.containerd.labelling import check_relabelling, load_default_apparmor_profile, relabel
from cri_dockerd_py.backends.containerd.oci.facts import DeviceNode
from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, Device, ImageSpec, Mount, Propagation
from cri_dockerd_py.model.security import ContainerSecurity, ProfileType, SecurityProfile

METADATA, IMAGE = ContainerMetadata("app"), ImageSpec("sha256:1")


@pytest.fixture
def shared_mount(tmp_path: Path) -> Iterator[Path]:
    """A shared mount."""
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    subprocess.run(["mount", "--make-shared", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.behaviour("MNT-01", "MNT-02", "MNT-03")
def test_sources_and_mount_table(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    source = str(tmp_path / "missing")
    mounts = (Mount("/a/b", str(tmp_path / "link")), Mount("/a", source, propagation=Propagation.PRIVATE))
    image = Mount("/i", image=ImageSpec("x"), readonly=True)
    side = host_side(ContainerSpec(METADATA, IMAGE, mounts=(*mounts, image)))
    assert [mount.container_path for mount in side.mounts] == ["/a", "/i", "/a/b"]
    assert side.mounts[2].host_path == str(tmp_path / "real")
    assert side.mounts[1] == image
    assert not side.mount_table


def test_mount_table_is_read_for_a_propagation(shared_mount: Path) -> None:
    mounts = (Mount("/a", str(shared_mount), propagation=Propagation.BIDIRECTIONAL),)
    side = host_side(ContainerSpec(METADATA, IMAGE, mounts=mounts))
    assert str(shared_mount) in {entry.path for entry in side.mount_table if entry.shared}


@pytest.mark.behaviour("DEV-01", "DEV-02")
def test_devices(tmp_path: Path) -> None:
    (tmp_path / "dir/sub").mkdir(parents=True)
    os.mknod(tmp_path / "dir/sub/disk", 0o640 | stat.S_IFBLK, os.makedev(8, 1))
    os.chown(tmp_path / "dir/sub/disk", 5, 6)
    (tmp_path / "link").symlink_to("/dev/null")
    null = os.stat("/dev/null")
    devices = [Device("/dev/n", str(tmp_path / "link"), "r"), Device("/dev/all", str(tmp_path / "dir"), "rwm")]
    assert asked_devices(devices) == [
        DeviceNode("/dev/n", "c", 1, 3, stat.S_IMODE(null.st_mode), null.st_uid, null.st_gid, "r"),
        DeviceNode("/dev/all/sub/disk", "b", 8, 1, 0o640, 5, 6, "rwm"),
    ]
    with pytest.raises(InvalidArgument, match="device"):
        asked_devices([Device("/dev/x", str(tmp_path / "missing"), "r")])


@pytest.mark.behaviour("DEV-03")
def test_devices_of_the_host_are_for_privileged_containers_only() -> None:
    paths = {node.path for node in host_devices()}
    assert {"/dev/null", "/dev/kmsg"} <= paths
    assert not [path for path in paths if path.startswith(("/dev/pts/", "/dev/shm/")) or path == "/dev/console"]
    assert not host_side(ContainerSpec(METADATA, IMAGE)).host_devices
    privileged = ContainerSpec(METADATA, IMAGE, security=ContainerSecurity(privileged=True))
    assert host_side(privileged).host_devices


@pytest.mark.behaviour("SCC-04", "SCC-05", "SCC-06")
def test_local_seccomp_profile(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))
    profile = SecurityProfile(ProfileType.LOCALHOST, f"localhost/{path}")
    side = host_side(ContainerSpec(METADATA, IMAGE, security=ContainerSecurity(seccomp=profile)))
    assert side.profiles.seccomp == {"defaultAction": "SCMP_ACT_ALLOW"}
    path.unlink()
    with pytest.raises(InvalidArgument, match="seccomp profile"):
        host_side(ContainerSpec(METADATA, IMAGE, security=ContainerSecurity(seccomp=profile)))
    privileged = ContainerSecurity(seccomp=profile, privileged=True)
    assert host_side(ContainerSpec(METADATA, IMAGE, security=privileged)).profiles.seccomp is None


@pytest.mark.behaviour("CRE-18")
def test_unknown_cdi_device_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="CDI device"):
        host_side(ContainerSpec(METADATA, IMAGE, cdi_devices=("example.invalid/x=nothing",)))


@pytest.mark.skipif(Path("/sbin/apparmor_parser").exists(), reason="this host has AppArmor's parser")
def test_apparmor_profile_without_a_parser() -> None:
    with pytest.raises(FailedPrecondition, match="was not loaded"):
        load_default_apparmor_profile()


@pytest.mark.behaviour("MNT-12")
@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="SELinux checks labels here")
def test_relabelling(tmp_path: Path) -> None:
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/sub/link").symlink_to("/etc")
    outside = tmp_path / "outside"
    outside.touch()
    (tmp_path / "dir/out").symlink_to(outside)
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    relabel(str(tmp_path / "dir"), label)
    assert os.getxattr(tmp_path / "dir/sub", "security.selinux") == label.encode()
    assert "security.selinux" not in os.listxattr(outside)
    relabel("/proc/self", label)


@pytest.mark.parametrize("path", ["/", "/etc", "/usr/", "//etc", "/proc/../etc"])
def test_the_hosts_own_directories_are_never_relabelled(path: str) -> None:
    with pytest.raises(InvalidArgument, match="relabelled"):
        check_relabelling(path)
