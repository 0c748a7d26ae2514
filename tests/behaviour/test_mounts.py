"""Mounts, image mounts and devices."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, Pod, eventually, refused
from tests.behaviour.conftest import start_privileged
from tests.behaviour.registries import push
from tests.engines import RegistryServer

PRIVILEGED = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
PRIVILEGED_POD = pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(privileged=True))


def mount(host: Path | str, container: str = "/mnt", **fields: object) -> pb.Mount:
    """Return a mount of a host path."""
    return pb.Mount(host_path=str(host), container_path=container, **fields)


def mount_tmpfs(path: Path) -> None:
    """Mount a tmpfs on the host."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "behaviour", str(path)], check=True)


@pytest.fixture
def shared_directory(host_directory: Path) -> Iterator[Path]:
    """A directory on the host that is a shared mount."""
    path = host_directory / "shared"
    mount_tmpfs(path)
    subprocess.run(["mount", "--make-rshared", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-R", "-l", str(path)], check=True)


@pytest.fixture
def private_mount(host_directory: Path) -> Iterator[Path]:
    """A directory on the host that is a private mount."""
    path = host_directory / "private"
    mount_tmpfs(path)
    subprocess.run(["mount", "--make-rprivate", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-R", "-l", str(path)], check=True)


@pytest.mark.behaviour("MNT-10", "MNT-06", "MNT-12", "MNT-11")
def test_mounts_work_and_are_echoed_as_they_were(pod: Pod, host_directory: Path, shared_directory: Path) -> None:
    file = host_directory / "file"
    file.write_text("content")
    mounts = [
        mount(host_directory, "/dir"),
        mount(file, "/etc/one-file", readonly=True),
        mount(host_directory, "/relabelled", selinux_relabel=True),
        mount(shared_directory, "/slave", propagation=pb.PROPAGATION_HOST_TO_CONTAINER),
    ]
    container = pod.create(mounts=mounts)

    def shown() -> list[pb.Mount]:
        return sorted(container.status().mounts, key=lambda item: item.container_path)

    wanted = sorted(mounts, key=lambda item: item.container_path)
    assert shown() == wanted
    container.start()
    assert shown() == wanted
    assert container.sh("cat /etc/one-file /dir/file /relabelled/file") == "content" * 3
    container.sh("echo more >/dir/written")
    assert (host_directory / "written").read_text() == "more\n"
    assert container.exec("sh", "-c", "echo no >/etc/one-file").exit_code != 0
    container.stop()
    assert shown() == wanted


@pytest.mark.behaviour("MNT-10")
def test_container_without_mounts_shows_none(pod: Pod) -> None:
    assert not pod.start().status().mounts


@pytest.mark.behaviour("MNT-01")
def test_parent_never_hides_a_child(pod: Pod, host_directory: Path) -> None:
    for name in ("a", "b", "c"):
        (host_directory / name).mkdir()
        (host_directory / name / name).touch()
    container = pod.start(
        mounts=[
            mount(host_directory / "c", "/x/y/z"),
            mount(host_directory / "a", "/x"),
            mount(host_directory / "b", "/x/y"),
        ]
    )
    assert container.sh("ls /x/a /x/y/b /x/y/z/c").splitlines() == ["/x/a", "/x/y/b", "/x/y/z/c"]


@pytest.mark.behaviour("MNT-02")
def test_symlink_on_the_host_is_followed(pod: Pod, host_directory: Path) -> None:
    (host_directory / "target").mkdir()
    (host_directory / "target" / "note").write_text("found")
    (host_directory / "link").symlink_to(host_directory / "target")
    container = pod.start(mounts=[mount(host_directory / "link")])
    assert container.sh("cat /mnt/note") == "found"
    (shown,) = container.status().mounts
    assert Path(shown.host_path, "note").read_text() == "found"


@pytest.mark.behaviour("MNT-03", "MNT-04")
def test_missing_paths_are_made(pod: Pod, host_directory: Path) -> None:
    source = host_directory / "not" / "there"
    container = pod.start(mounts=[mount(source, "/not/in/the/image")])
    container.sh("echo hello >/not/in/the/image/file")
    assert (source / "file").read_text() == "hello\n"
    assert source.stat().st_mode & 0o777 == 0o755


@pytest.mark.behaviour("MNT-05")
def test_shared_memory_of_the_caller_wins(pod: Pod, host_directory: Path) -> None:
    (host_directory / "mine").touch()
    assert pod.start(mounts=[mount(host_directory, "/dev/shm")]).sh("ls /dev/shm") == "mine"


@pytest.mark.behaviour("MNT-06")
def test_readonly_is_not_recursive(pod: Pod, host_directory: Path, private_mount: Path) -> None:
    container = pod.start(mounts=[mount(host_directory, readonly=True)])
    assert b"Read-only" in container.exec("touch", "/mnt/new").stderr
    container.sh(f"touch /mnt/{private_mount.name}/new")
    assert (private_mount / "new").exists()


@pytest.mark.behaviour("MNT-07", "STA-15")
def test_recursive_readonly_is_done_or_refused(
    pod: Pod, host_directory: Path, private_mount: Path, default_features: pb.RuntimeHandlerFeatures
) -> None:
    wanted = mount(host_directory, readonly=True, recursive_read_only=True)
    if not default_features.recursive_read_only_mounts:
        with refused():
            pod.create(mounts=[wanted])
        return
    container = pod.start(mounts=[wanted])
    assert b"Read-only" in container.exec("touch", f"/mnt/{private_mount.name}/new").stderr
    assert container.status().mounts[0].recursive_read_only


@pytest.mark.behaviour("MNT-07")
@pytest.mark.parametrize(
    "fields",
    [
        {"recursive_read_only": True},
        {"recursive_read_only": True, "readonly": True, "propagation": pb.PROPAGATION_HOST_TO_CONTAINER},
        {"recursive_read_only": True, "readonly": True, "propagation": pb.PROPAGATION_BIDIRECTIONAL},
    ],
)
def test_contradictory_recursive_readonly_is_refused(
    pod: Pod, shared_directory: Path, fields: dict[str, object]
) -> None:
    with refused():
        pod.create(mounts=[mount(shared_directory, **fields)])


@pytest.mark.behaviour("MNT-08")
@pytest.mark.parametrize(
    ("propagation", "into", "back"),
    [
        (pb.PROPAGATION_PRIVATE, False, False),
        (pb.PROPAGATION_HOST_TO_CONTAINER, True, False),
        (pb.PROPAGATION_BIDIRECTIONAL, True, True),
    ],
)
def test_later_mounts_propagate_as_asked(
    pod: Pod, shared_directory: Path, propagation: int, into: bool, back: bool
) -> None:
    for name in ("by-host", "by-container"):
        (shared_directory / name).mkdir()
    capabilities = pb.Capability(add_capabilities=["SYS_ADMIN"])
    context = pb.LinuxContainerSecurityContext(capabilities=capabilities)
    container = pod.start(
        mounts=[mount(shared_directory, propagation=propagation)],
        linux=pb.LinuxContainerConfig(security_context=context),
    )
    mount_tmpfs(shared_directory / "by-host")
    (shared_directory / "by-host" / "note").touch()
    assert (container.sh("ls /mnt/by-host") == "note") == into
    container.sh("mount -t tmpfs none /mnt/by-container && touch /mnt/by-container/note")
    assert (shared_directory / "by-container" / "note").exists() == back


@pytest.mark.behaviour("MNT-09")
@pytest.mark.parametrize("propagation", [pb.PROPAGATION_HOST_TO_CONTAINER, pb.PROPAGATION_BIDIRECTIONAL])
def test_propagation_from_a_private_mount_is_refused(pod: Pod, private_mount: Path, propagation: int) -> None:
    with refused():
        pod.create(mounts=[mount(private_mount, propagation=propagation)])


@pytest.mark.behaviour("MNT-13")
@pytest.mark.differs_from_containerd("it takes them, and the start fails where the kernel or runc cannot")
def test_idmapped_mount_is_done_or_refused(pod: Pod, host_directory: Path) -> None:
    mapping = pb.IDMapping(container_id=0, host_id=5000, length=100)
    with pytest.raises(grpc.RpcError) as refusal:
        pod.create(mounts=[mount(host_directory, uidMappings=[mapping], gidMappings=[mapping])])
    assert refusal.value.details()


@pytest.mark.behaviour("MNT-18")
def test_usual_filesystems_are_there(pod: Pod) -> None:
    mounts = {line.split()[1]: line.split() for line in pod.start().sh("cat /proc/mounts").splitlines()}
    for path in ("/proc", "/sys", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys/fs/cgroup"):
        assert path in mounts, path
    assert "ro" in mounts["/sys"][3].split(",")
    cgroups = [fields for fields in mounts.values() if fields[2] in ("cgroup", "cgroup2")]
    assert cgroups
    assert all("ro" in fields[3].split(",") for fields in cgroups)
    assert mounts["/dev/shm"][2] == "tmpfs"


# Image mounts


@pytest.fixture
def image_mount(cri: Cri, pod: Pod) -> Callable[..., pb.Mount]:
    """A function that makes a mount of the busybox image; the test is skipped where such mounts are refused."""

    def make(sub_path: str = "", **fields: object) -> pb.Mount:
        spec = pb.ImageSpec(image=cri.images["busybox"])
        options = {"container_path": "/image", "readonly": True, **fields}
        return pb.Mount(image=spec, image_sub_path=sub_path, **options)

    try:
        pod.create(mounts=[make()]).remove()
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            pytest.skip(f"no image mounts here: {error.details()}")
        raise
    return make


@pytest.mark.behaviour("MNT-14", "MNT-15")
def test_image_is_mounted_readonly_and_executable(
    cri: Cri, pod: Pod, image_mount: Callable[..., pb.Mount], new_pod: Callable[..., Pod]
) -> None:
    container = pod.start(mounts=[image_mount()])
    assert container.sh("cat /image/data/seed") == "from the image"
    assert b"Read-only" in container.exec("touch", "/image/new").stderr
    assert container.sh("/image/bin/busybox echo executed") == "executed"
    (shown,) = container.status().mounts
    assert shown.container_path == "/image"
    assert shown.image.image == cri.images["busybox"]
    assert shown.image.image_ref in ("", cri.images["busybox"])


@pytest.mark.behaviour("MNT-14", "MNT-15")
@pytest.mark.differs_from_containerd("sub-paths of images are newer than 2.1")
def test_directory_of_an_image_is_mounted(pod: Pod, image_mount: Callable[..., pb.Mount]) -> None:
    container = pod.start(mounts=[image_mount("data")])
    assert container.sh("cat /image/seed") == "from the image"
    assert container.status().mounts[0].image_sub_path == "data"


@pytest.mark.behaviour("MNT-14")
@pytest.mark.parametrize("sub_path", ["missing", "/etc", "../etc", "data/../../etc"])
@pytest.mark.differs_from_containerd("sub-paths of images are newer than 2.1")
def test_bad_path_in_an_image_is_refused(pod: Pod, image_mount: Callable[..., pb.Mount], sub_path: str) -> None:
    with refused():
        pod.create(mounts=[image_mount(sub_path)])


@pytest.mark.behaviour("MNT-14", "IMG-06")
def test_mount_of_an_unknown_image_is_refused(pod: Pod, image_mount: Callable[..., pb.Mount]) -> None:
    wanted = image_mount()
    wanted.image.image = "sha256:" + "0" * 64
    with refused():
        pod.create(mounts=[wanted])


@pytest.mark.behaviour("MNT-15")
@pytest.mark.differs_from_containerd("the field is newer than 2.1")
def test_status_says_which_image_is_mounted(cri: Cri, pod: Pod, image_mount: Callable[..., pb.Mount]) -> None:
    (shown,) = pod.start(mounts=[image_mount()]).status().mounts
    assert shown.image.image_ref == cri.images["busybox"]


@pytest.mark.behaviour("MNT-16")
def test_mounted_image_is_shared_and_released_with_the_pod(
    cri: Cri, registry: RegistryServer, unique_image: object, image_mount: Callable[..., pb.Mount]
) -> None:
    reference = push(registry.address, "mounted", f"t{time.monotonic_ns()}", unique_image)  # type: ignore[arg-type]
    image_id = cri("PullImage", image=pb.ImageSpec(image=reference)).image_ref
    wanted = image_mount()
    wanted.image.image = image_id
    pod = cri.run_pod()
    one, two = (pod.start(mounts=[wanted]) for _ in range(2))
    one.remove()
    assert two.sh("cat /image/data/seed") == "from the image"
    pod.remove()
    cri("RemoveImage", image=pb.ImageSpec(image=image_id))
    assert cri.image(image_id) is None
    digits = image_id.removeprefix("sha256:")
    eventually(lambda: digits in Path("/proc/self/mounts").read_text(), lambda held: not held, "the end of the mount")


# Devices


@pytest.mark.behaviour("DEV-01", "DEV-02")
def test_device_is_made_and_allowed(pod: Pod) -> None:
    container = pod.start(devices=[pb.Device(host_path="/dev/zero", container_path="/dev/mine", permissions="rwm")])
    assert container.sh("head -c 5 /dev/mine | wc -c") == "5"
    assert container.sh("stat -c '%F %t:%T' /dev/mine") == "character special file 1:5"


@pytest.mark.behaviour("DEV-01")
def test_permissions_of_a_device_hold(pod: Pod) -> None:
    fuse = Path("/dev/fuse") if Path("/dev/fuse").exists() else Path("/dev/kmsg")
    device = pb.Device(host_path=str(fuse), container_path="/dev/limited", permissions="r")
    container = pod.start(devices=[device])
    assert b"not permitted" in container.exec("sh", "-c", ": >>/dev/limited").stderr


@pytest.mark.behaviour("DEV-01")
def test_symlinked_device_is_followed(pod: Pod, host_directory: Path) -> None:
    link = host_directory / "zero"
    link.symlink_to("/dev/zero")
    container = pod.start(devices=[pb.Device(host_path=str(link), container_path="/dev/mine", permissions="rwm")])
    assert container.sh("head -c 5 /dev/mine | wc -c") == "5"


@pytest.mark.behaviour("DEV-01")
def test_directory_of_devices_brings_them_all(pod: Pod, host_directory: Path) -> None:
    for name, minor in (("one", 3), ("two", 5)):
        os.mknod(host_directory / name, 0o20666, os.makedev(1, minor))
    device = pb.Device(host_path=str(host_directory), container_path="/dev/many", permissions="rwm")
    container = pod.start(devices=[device])
    assert container.sh("head -c 5 /dev/many/two | wc -c; ls /dev/many").split() == ["5", "one", "two"]


@pytest.mark.behaviour("DEV-01", "CRE-07")
def test_missing_device_is_refused(cri: Cri, pod: Pod) -> None:
    device = pb.Device(host_path="/dev/no-such-device", container_path="/dev/mine", permissions="rwm")
    before = {item.id for item in cri.containers(pod_sandbox_id=pod.id)}
    with refused():
        pod.create(devices=[device])
    assert {item.id for item in cri.containers(pod_sandbox_id=pod.id)} == before


@pytest.mark.behaviour("DEV-03", "CAP-04")
def test_privileged_container_has_the_hosts_devices(new_pod: Callable[..., Pod], pod: Pod) -> None:
    container = start_privileged(new_pod(linux=PRIVILEGED_POD), linux=PRIVILEGED)
    disk = next(path for path in Path("/dev").iterdir() if path.is_block_device())
    assert container.sh(f"stat -c %F /dev/{disk.name}") == "block special file"
    container.sh(f"head -c 512 /dev/{disk.name} | wc -c")
    assert pod.start().exec("stat", f"/dev/{disk.name}").exit_code != 0
