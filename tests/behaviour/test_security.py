"""Users and groups, capabilities, privileges, paths, seccomp, AppArmor, SELinux."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Cri, Pod, refused
from tests.behaviour.conftest import start_privileged

RuntimeDefault, Unconfined, Localhost = (
    pb.SecurityProfile.RuntimeDefault,
    pb.SecurityProfile.Unconfined,
    pb.SecurityProfile.Localhost,
)
NET_RAW, NET_ADMIN, SYS_ADMIN = 1 << 13, 1 << 12, 1 << 21


def secured(**fields: object) -> pb.LinuxContainerConfig:
    """Return the Linux part of a container's config with this security context."""
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields))


def process_status(container: Container) -> dict[str, str]:
    """Return the status of a process in a container as the kernel tells it."""
    return dict(line.split(":\t", 1) for line in container.sh("cat /proc/self/status").splitlines())


def number(value: int) -> pb.Int64Value:
    """Return a number that may be absent."""
    return pb.Int64Value(value=value)


@pytest.mark.behaviour("USR-01", "USR-02", "USR-06", "USR-07")
@pytest.mark.parametrize(
    ("image", "fields", "user", "group"),
    [
        ("busybox", {}, 0, 0),
        ("busybox", {"run_as_user": number(1001)}, 1001, 0),
        ("busybox", {"run_as_user": number(33)}, 33, 33),
        ("busybox", {"run_as_user": number(1001), "run_as_group": number(1002)}, 1001, 1002),
        ("busybox", {"run_as_username": "nobody"}, 65534, 65534),
        ("busybox", {"run_as_username": "www-data", "run_as_group": number(7)}, 33, 7),
        ("user-uid", {}, 1002, 0),
        ("user-name", {}, 33, 33),
        ("user-uid-group", {}, 1003, 100),
        ("user-name-group", {}, 33, 100),
        ("user-in-group", {}, 1000, 1000),
        ("user-uid", {"run_as_user": number(0)}, 0, 0),
    ],
)
def test_user_and_group(pod: Pod, image: str, fields: dict[str, object], user: int, group: int) -> None:
    container = pod.start("sh", "-c", "id -u; id -g; sleep 1000", image=image, linux=secured(**fields))
    assert container.sh("id -u; id -g").split() == [str(user), str(group)]
    assert container.output().split() == [str(user), str(group)]


@pytest.mark.behaviour("USR-01", "CRE-07")
@pytest.mark.parametrize("fields", [{"run_as_group": number(1002)}, {"run_as_username": "not-in-the-image"}])
@pytest.mark.parametrize("image", ["busybox", "user-uid"])
def test_unusable_user_is_refused(cri: Cri, pod: Pod, image: str, fields: dict[str, object]) -> None:
    config = cri.container_config(image=image, linux=secured(**fields))
    with refused():
        pod.create_from(config)
    assert config.metadata.name not in {item.metadata.name for item in cri.containers(pod_sandbox_id=pod.id)}


@pytest.mark.behaviour("USR-04", "CST-14", "USR-06")
def test_groups_are_merged_with_those_of_the_image(pod: Pod, status: pb.StatusResponse) -> None:
    linux = secured(run_as_user=number(1000), supplemental_groups=[1234])
    container = pod.start("sh", "-c", "id -G; sleep 1000", image="user-in-group", linux=linux)
    assert sorted(container.sh("id -G").split()) == ["1000", "1234", "50000"]
    assert sorted(container.output().split()) == ["1000", "1234", "50000"]
    if status.features.supplemental_groups_policy:
        user = container.status().user.linux
        assert (user.uid, user.gid, list(user.supplemental_groups)) == (1000, 1000, [1000, 1234, 50000])


@pytest.mark.behaviour("USR-05", "CST-14", "STA-16")
def test_strict_groups_are_done_or_refused(pod: Pod, status: pb.StatusResponse) -> None:
    linux = secured(run_as_user=number(1000), supplemental_groups=[1234], supplemental_groups_policy=pb.Strict)
    if not status.features.supplemental_groups_policy:
        with refused():
            pod.create(image="user-in-group", linux=linux)
        return
    container = pod.start(image="user-in-group", linux=linux)
    assert sorted(container.sh("id -G").split()) == ["1000", "1234"]
    assert list(container.status().user.linux.supplemental_groups) == [1000, 1234]


@pytest.mark.behaviour("USR-05")
def test_unknown_group_policy_is_refused(pod: Pod) -> None:
    with refused():
        pod.create(linux=secured(supplemental_groups_policy=7))


@pytest.mark.behaviour("CAP-01", "CAP-02", "CAP-03")
@pytest.mark.parametrize(
    ("add", "drop", "present", "absent"),
    [
        ([], [], NET_RAW, NET_ADMIN | SYS_ADMIN),
        (["NET_ADMIN"], [], NET_RAW | NET_ADMIN, SYS_ADMIN),
        (["net_admin"], ["net_raw"], NET_ADMIN, NET_RAW),
        (["ALL"], [], NET_RAW | NET_ADMIN | SYS_ADMIN, 0),
        (["ALL"], ["NET_ADMIN"], NET_RAW | SYS_ADMIN, NET_ADMIN),
        ([], ["ALL"], 0, (1 << 41) - 1),
        (["NET_ADMIN"], ["ALL"], NET_ADMIN, NET_RAW | SYS_ADMIN),
        (["ALL", "NET_ADMIN"], ["ALL"], NET_ADMIN, NET_RAW | SYS_ADMIN),
    ],
)
def test_capabilities_are_added_and_dropped(
    pod: Pod, add: list[str], drop: list[str], present: int, absent: int
) -> None:
    capabilities = pb.Capability(add_capabilities=add, drop_capabilities=drop)
    fields = process_status(start_privileged(pod, linux=secured(capabilities=capabilities)))
    for name in ("CapEff", "CapPrm", "CapBnd"):
        value = int(fields[name], 16)
        assert value & present == present, name
        assert value & absent == 0, name
    assert int(fields["CapAmb"], 16) == 0


@pytest.mark.behaviour("CAP-02")
@pytest.mark.differs_from_containerd("it ignores them")
def test_ambient_capabilities_reach_a_user_or_are_refused(pod: Pod) -> None:
    capabilities = pb.Capability(add_ambient_capabilities=["NET_ADMIN"])
    linux = secured(capabilities=capabilities, run_as_user=number(1000))
    try:
        container = pod.run("cat", "/proc/self/status", linux=linux)
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT):
            raise
        pytest.skip(f"no ambient capabilities here: {error.details()}")
    fields = dict(line.split(":\t", 1) for line in container.output().splitlines())
    for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) & NET_ADMIN, name


@pytest.mark.behaviour("CAP-03")
def test_net_admin_works_when_added(pod: Pod) -> None:
    command = "ip link add dummy7 type dummy || ip link set lo mtu 60000"
    assert pod.start().exec("sh", "-c", command).exit_code != 0
    capabilities = pb.Capability(add_capabilities=["NET_ADMIN"])
    pod.start(linux=secured(capabilities=capabilities)).sh(command)


@pytest.fixture(scope="module")
def privileged(cri: Cri) -> Iterator[Container]:
    """A privileged container, whatever else it asks for."""
    context = pb.LinuxSandboxSecurityContext(privileged=True)
    pod = cri.run_pod(cri.pod_config(linux=pb.LinuxPodSandboxConfig(security_context=context)))
    seccomp = pb.SecurityProfile(profile_type=RuntimeDefault)
    yield start_privileged(pod, linux=secured(privileged=True, seccomp=seccomp))
    pod.remove()


@pytest.mark.behaviour("CAP-04", "SCC-06")
def test_privileged_has_everything(privileged: Container) -> None:
    fields = process_status(privileged)
    mine = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert int(fields["CapEff"], 16) == int(mine["CapBnd"], 16)
    assert fields["Seccomp"] == "0"
    mounts = {line.split()[1]: line.split()[3].split(",") for line in privileged.sh("cat /proc/mounts").splitlines()}
    assert "rw" in mounts["/sys"]
    assert "rw" in mounts["/proc"]
    assert "/proc/sys" not in mounts
    privileged.sh("mkdir -p /mnt && mount -t tmpfs none /mnt")


@pytest.mark.behaviour("CAP-04")
def test_privileged_changes_neither_namespaces_nor_the_user(privileged: Container) -> None:
    assert "eth0" in privileged.sh("ip link")
    assert privileged.sh("id -u") == "0"


@pytest.mark.behaviour("CAP-05")
@pytest.mark.parametrize(("no_new_privs", "shown"), [(True, "1"), (False, "0")])
def test_no_new_privileges(pod: Pod, no_new_privs: bool, shown: str) -> None:
    container = pod.start(
        "sh",
        "-c",
        "cp /bin/busybox /tmp/id && chmod 4755 /tmp/id && sleep 1000",
        linux=secured(no_new_privs=no_new_privs),
    )
    assert process_status(container)["NoNewPrivs"] == shown


@pytest.mark.behaviour("CAP-06")
@pytest.mark.parametrize("readonly", [True, False])
def test_readonly_root_filesystem(pod: Pod, host_directory: Path, readonly: bool) -> None:
    volume = pb.Mount(container_path="/volume", host_path=str(host_directory))
    container = pod.start(linux=secured(readonly_rootfs=readonly), mounts=[volume])
    done = container.exec("touch", "/new")
    assert (b"Read-only" in done.stderr) == readonly
    container.sh("touch /volume/new /dev/shm/new")


@pytest.mark.behaviour("CAP-07")
def test_masked_and_readonly_paths(pod: Pod) -> None:
    container = pod.start(linux=secured(masked_paths=["/bin/busybox-none", "/etc/passwd"], readonly_paths=["/tmp"]))
    assert container.sh("cat /etc/passwd") == ""
    assert b"Read-only" in container.exec("touch", "/tmp/new").stderr
    assert container.sh("grep -c ' /proc/' /proc/mounts || true") == "0"


@pytest.mark.behaviour("CAP-07")
def test_nothing_is_masked_when_nothing_is_listed(pod: Pod) -> None:
    mounts = pod.start(linux=secured()).sh("cat /proc/mounts")
    assert not [line for line in mounts.splitlines() if line.split()[1].startswith("/proc/")]


@pytest.fixture
def chmod_denied(host_directory: Path) -> Path:
    """A seccomp profile that denies chmod."""
    profile = host_directory / "deny-chmod.json"
    names = ["chmod", "fchmod", "fchmodat"]
    rules = [{"names": names, "action": "SCMP_ACT_ERRNO"}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    return profile


@pytest.mark.behaviour("SCC-01", "SCC-02", "SCC-03", "CRE-15")
@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "0"),
        ({"seccomp_profile_path": ""}, "0"),
        ({"seccomp": pb.SecurityProfile(profile_type=Unconfined)}, "0"),
        ({"seccomp": pb.SecurityProfile(profile_type=RuntimeDefault)}, "2"),
        ({"seccomp_profile_path": "runtime/default"}, "2"),
        ({"seccomp_profile_path": "unconfined"}, "0"),
    ],
    ids=["absent", "empty", "unconfined", "default", "old default", "old unconfined"],
)
def test_seccomp_mode(pod: Pod, fields: dict[str, object], shown: str) -> None:
    assert process_status(pod.start(linux=secured(**fields)))["Seccomp"] == shown


@pytest.mark.behaviour("SCC-04", "SCC-07", "EXS-09")
@pytest.mark.parametrize("form", ["new", "old", "both"])
def test_seccomp_profile_of_the_host_is_active(pod: Pod, chmod_denied: Path, form: str) -> None:
    fields: dict[str, object] = {}
    if form in ("new", "both"):
        fields["seccomp"] = pb.SecurityProfile(profile_type=Localhost, localhost_ref=str(chmod_denied))
    if form == "old":
        fields["seccomp_profile_path"] = f"localhost/{chmod_denied}"
    if form == "both":
        fields["seccomp_profile_path"] = "unconfined"
    container = pod.start(linux=secured(**fields))
    assert process_status(container)["Seccomp"] == "2"
    assert b"not permitted" in container.exec("chmod", "700", "/tmp").stderr
    container.sh("true")


@pytest.mark.behaviour("SCC-05", "CRE-07")
@pytest.mark.parametrize("content", [None, "not json", '{"defaultAction": "SCMP_ACT_NONSENSE"}'])
def test_bad_seccomp_profile_is_refused(cri: Cri, pod: Pod, host_directory: Path, content: str | None) -> None:
    path = host_directory / "profile.json"
    if content is not None:
        path.write_text(content)
    seccomp = pb.SecurityProfile(profile_type=Localhost, localhost_ref=str(path))
    config = cri.container_config(linux=secured(seccomp=seccomp))
    with refused():
        container = pod.create_from(config)
        container.start()
    if content is None:
        assert config.metadata.name not in {item.metadata.name for item in cri.containers(pod_sandbox_id=pod.id)}


APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
has_apparmor = APPARMOR.exists() and APPARMOR.read_text().strip() == "Y"


@pytest.mark.behaviour("AAR-01", "AAR-04", "AAR-05")
@pytest.mark.skipif(has_apparmor, reason="this host has AppArmor")
@pytest.mark.parametrize(
    ("fields", "works"),
    [
        ({}, True),
        ({"apparmor": pb.SecurityProfile(profile_type=Unconfined)}, True),
        ({"apparmor_profile": "unconfined"}, True),
        ({"apparmor": pb.SecurityProfile(profile_type=Localhost, localhost_ref="a-profile")}, False),
        ({"apparmor_profile": "localhost/a-profile"}, False),
        ({"apparmor": pb.SecurityProfile(profile_type=RuntimeDefault)}, False),
        ({"apparmor_profile": "runtime/default"}, False),
    ],
    ids=["absent", "unconfined", "old unconfined", "localhost", "old localhost", "default", "old default"],
)
def test_apparmor_on_a_host_without_it(pod: Pod, fields: dict[str, object], works: bool) -> None:
    if works:
        assert pod.start(linux=secured(**fields)).sh("echo ran") == "ran"
    else:
        with refused():
            pod.create(linux=secured(**fields))


@pytest.mark.behaviour("AAR-02", "AAR-03", "AAR-04", "AAR-05")
@pytest.mark.skipif(not has_apparmor, reason="this host has no AppArmor")
def test_apparmor_profiles(pod: Pod) -> None:
    default = pod.start(linux=secured(apparmor=pb.SecurityProfile(profile_type=RuntimeDefault)))
    assert "enforce" in default.sh("cat /proc/self/attr/current")
    unconfined = pod.start(linux=secured(apparmor=pb.SecurityProfile(profile_type=Unconfined)))
    assert unconfined.sh("cat /proc/self/attr/current") == "unconfined"
    with refused():
        pod.create(linux=secured(apparmor=pb.SecurityProfile(profile_type=Localhost, localhost_ref="not-loaded")))


@pytest.mark.behaviour("SEL-04")
@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="this host has SELinux")
def test_selinux_options_are_ignored_without_selinux(new_pod: Callable[..., Pod]) -> None:
    options = pb.SELinuxOption(user="system_u", role="system_r", type="svirt_lxc_net_t", level="s0:c1,c5")
    sandbox = pb.LinuxSandboxSecurityContext(selinux_options=options)
    pod = new_pod(linux=pb.LinuxPodSandboxConfig(security_context=sandbox))
    assert pod.start(linux=secured(selinux_options=options)).sh("echo ran") == "ran"


@pytest.mark.behaviour("SEL-01", "SEL-02", "SEL-03", "NSP-10")
@pytest.mark.skipif(not Path("/sys/fs/selinux/enforce").exists(), reason="this host has no SELinux")
def test_selinux_labels_are_one_per_pod(pod: Pod, new_pod: Callable[..., Pod]) -> None:
    labels = [pod.start().sh("cat /proc/self/attr/current") for _ in range(2)]
    assert labels[0] == labels[1]
    assert "container_t" in labels[0]
    assert new_pod().start().sh("cat /proc/self/attr/current") != labels[0]
