"""Specs run by the real runc and crun, looked at from inside."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from cri_dockerd_py.backends.cdi.edits import CdiEdits, CdiHook, CdiMount
from cri_dockerd_py.backends.containerd.host_facts import kernel_version, read_host_facts
from cri_dockerd_py.backends.containerd.oci.facts import HandlerOptions
from cri_dockerd_py.backends.containerd.oci.resources import linux_resources
from cri_dockerd_py.backends.containerd.runtime_features import read_runtime_features
from cri_dockerd_py.backends.users import ResolvedUser
from cri_dockerd_py.model.container import Device, Mount, Propagation
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxSpec
from cri_dockerd_py.model.security import (
    Capabilities,
    ContainerSecurity,
    IdMapping,
    NamespaceMode,
    NamespaceOptions,
    ProfileType,
    SandboxSecurity,
    SecurityProfile,
    UserNamespace,
)
from tests.backends.containerd.oci.bundles import Bundles, network_namespace, user_namespace
from tests.backends.containerd.oci.pods import Pod, Runtime, pod_files
from tests.backends.containerd.oci.values import METADATA, OWN_PID, container
from tests.engines.crun import write_crun
from tests.processes import private_directory

pytestmark = pytest.mark.engine
SLEEP = ("sh", "-c", "echo ready; sleep 1000")
DEFAULT_SECCOMP = SecurityProfile(ProfileType.RUNTIME_DEFAULT)
SYS_ADMIN, NET_RAW, NET_ADMIN = 1 << 21, 1 << 13, 1 << 12


@pytest_asyncio.fixture(params=["runc", "crun"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    """Each runtime, with a directory that any user may enter."""
    directory = private_directory("oci")
    directory.chmod(0o755)
    binary = str(write_crun(directory)) if request.param == "crun" else request.param
    features = await read_runtime_features(binary, kernel_version(platform.release()))
    bundles = Bundles(binary, directory, f"/{directory.name}")
    yield Runtime(bundles, directory, HandlerOptions(features=features), pod_files(directory), read_host_facts())
    bundles.close()
    shutil.rmtree(directory)


@pytest.fixture
def pod(runtime: Runtime) -> Iterator[Pod]:
    """A pod with a network namespace of its own."""
    record = SandboxSpec(
        METADATA,
        hostname="pod-host",
        cgroup_parent=runtime.bundles.cgroup_parent,
        sysctls={"kernel.shm_rmid_forced": "1"},
        security=SandboxSecurity(privileged=True, namespaces=OWN_PID, seccomp=DEFAULT_SECCOMP),
    )
    with network_namespace(runtime.directory) as netns:
        yield runtime.start_pod(record, netns_path=netns)


def status_of(text: str) -> dict[str, str]:
    """Return the fields of /proc/self/status."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.behaviour("RUN-13", "RUN-14", "RUN-15")
def test_sandbox(pod: Pod) -> None:
    process = Path(f"/proc/{pod.running.pid}")
    for name in ("net", "ipc", "uts", "pid", "mnt"):
        assert os.readlink(process / "ns" / name) != os.readlink(f"/proc/self/ns/{name}")
    fields = status_of((process / "status").read_text())
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapEff"], 16) & SYS_ADMIN == 0
    assert int((process / "oom_score_adj").read_text()) == max(-998, pod.facts.least_oom_score_adj)
    if pod.facts.cgroup_version == 1:
        assert pod.bundles.limit("pod", "cpu", "cpu.shares") == "2"
    spec = container(command=SLEEP)
    pod.start("c", spec)
    keys = ("kernel/shm_rmid_forced", "net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range")
    shown = pod.sh("c", spec, "cat " + " ".join(f"/proc/sys/{key}" for key in keys))
    assert shown.split() == ["1", "0", "0", "2147483647"]


@pytest.mark.behaviour("CRE-10", "CRE-11", "USR-06", "CAP-05", "CAP-07", "SCC-03", "MNT-04", "MNT-18")
def test_container(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    security = ContainerSecurity(
        namespaces=OWN_PID,
        no_new_privs=True,
        seccomp=DEFAULT_SECCOMP,
        masked_paths=("/etc/passwd", "/proc/kcore"),
        readonly_paths=("/proc/sys",),
    )
    spec = container(
        security,
        command=SLEEP,
        working_dir="/made/on/demand",
        envs=(("ODD", "a=b\nc ü"),),
        mounts=(Mount("/deep/volume", str(tmp_path / "volume"), readonly=True),),
    )
    user = {"user": ResolvedUser(1000, 1001, (1002,))}
    pod.start("c", spec, **user)
    fields = status_of(pod.sh("c", spec, "cat /proc/self/status", **user))
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")
    assert int(fields["CapBnd"], 16) & (NET_RAW | SYS_ADMIN) == NET_RAW
    assert pod.sh("c", spec, "id -u; id -g; id -G", **user).split()[:2] == ["1000", "1001"]
    assert set(fields["Groups"].split()) == {"1001", "1002"}
    assert pod.sh("c", spec, "pwd; hostname; cat /etc/hosts; cat /etc/passwd; echo $HOSTNAME").splitlines() == [
        "/made/on/demand",
        "pod-host",
        "our hosts",
        "pod-host",
    ]
    assert pod.sh("c", spec, 'echo "$ODD"') == "a=b\nc ü"
    mounts = pod.sh("c", spec, "cat /proc/mounts")
    places = {line.split()[1]: line.split()[3].split(",") for line in mounts.splitlines()}
    assert places.keys() >= {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/etc/hosts"}
    assert "ro" in places["/sys"]
    assert "ro" in places["/proc/sys"]
    assert "ro" in places["/deep/volume"]
    assert "/run" not in places
    (Path(pod.files.shm) / "shared").write_text("by the pod")
    assert pod.sh("c", spec, "cat /dev/shm/shared") == "by the pod"


@pytest.mark.behaviour("SCC-02", "SCC-03")
@pytest.mark.parametrize(("profile", "works"), [(None, True), (DEFAULT_SECCOMP, False)])
def test_default_seccomp_denies_new_user_namespaces(pod: Pod, profile: SecurityProfile | None, works: bool) -> None:
    spec = container(ContainerSecurity(namespaces=OWN_PID, seccomp=profile), command=SLEEP)
    pod.start("c", spec)
    assert pod.sh("c", spec, "unshare -U true 2>&1 && echo made || true").endswith("made") is works


@pytest.mark.behaviour("SCC-04")
def test_local_seccomp_profile(pod: Pod, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],'
        '"syscalls": [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    profile = SecurityProfile(ProfileType.LOCALHOST, str(path))
    spec = container(ContainerSecurity(namespaces=OWN_PID, seccomp=profile), command=SLEEP)
    pod.start("c", spec)
    assert "not permitted" in pod.sh("c", spec, "chmod 700 /tmp 2>&1 || true")


@pytest.mark.behaviour("RES-02", "RES-04", "RES-07", "UCR-01")
def test_limits_and_their_update(pod: Pod) -> None:
    if pod.facts.cgroup_version == 2:
        pytest.skip("the files looked at are those of cgroup v1")
    limits = Resources(
        cpu_period_us=50_000,
        cpu_quota_us=25_000,
        cpu_shares=512,
        memory_limit_bytes=64 << 20,
        oom_score_adj=500,
        cpuset_cpus="0",
    )
    spec = container(command=SLEEP, resources=limits)
    running = pod.start("c", spec)
    assert Path(f"/proc/{running.pid}/oom_score_adj").read_text().strip() == "500"
    files = (
        ("cpu", "cpu.cfs_period_us"),
        ("cpu", "cpu.cfs_quota_us"),
        ("cpu", "cpu.shares"),
        ("memory", "memory.limit_in_bytes"),
        ("memory", "memory.memsw.limit_in_bytes"),
        ("cpuset", "cpuset.cpus"),
    )
    before = [pod.bundles.limit("c", *file) for file in files]
    assert before == ["50000", "25000", "512", str(64 << 20), str(64 << 20), "0"]
    pod.bundles.update("c", linux_resources(Resources(cpuset_cpus="0-1"), pod.facts))
    assert [pod.bundles.limit("c", *file) for file in files] == [*before[:-1], "0-1"]
    pod.bundles.update("c", linux_resources(Resources(memory_limit_bytes=96 << 20), pod.facts))
    assert pod.bundles.limit("c", "memory", "memory.memsw.limit_in_bytes") == str(96 << 20)
    assert pod.bundles.limit("c", "cpu", "cpu.cfs_quota_us") == "25000"


@pytest.mark.behaviour("CAP-04", "DEV-03")
def test_privileged_container(pod: Pod) -> None:
    spec = container(ContainerSecurity(namespaces=OWN_PID, privileged=True, seccomp=DEFAULT_SECCOMP), command=SLEEP)
    pod.start("c", spec)
    fields = status_of(pod.sh("c", spec, "cat /proc/self/status"))
    own = status_of(Path("/proc/self/status").read_text())
    assert int(fields["CapEff"], 16) == int(own["CapEff"], 16)
    assert fields["Seccomp"] == "0"
    places = {line.split()[1]: line.split()[3] for line in pod.sh("c", spec, "cat /proc/mounts").splitlines()}
    assert places["/sys"].startswith("rw")
    assert not [place for place in places if place.startswith("/proc/")]
    assert pod.sh("c", spec, "ls /dev/kmsg && mount -t tmpfs none /tmp && echo mounted").endswith("mounted")


@pytest.mark.behaviour("CAP-02")
def test_ambient_capabilities_reach_a_user(pod: Pod) -> None:
    wish = Capabilities(add_ambient=("NET_ADMIN",), drop=("ALL",))
    command = ("sh", "-c", "cat /proc/self/status; echo ready; sleep 1000")
    spec = container(ContainerSecurity(namespaces=OWN_PID, capabilities=wish), command=command)
    fields = status_of(pod.start("c", spec, user=ResolvedUser(1000, 1000)).output())
    for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == NET_ADMIN, name


@pytest.mark.behaviour("DEV-01")
def test_device_with_its_permissions(pod: Pod) -> None:
    spec = container(command=SLEEP, devices=(Device("/dev/mine", "/dev/kmsg", "r"),))
    pod.start("c", spec)
    assert "character special" in pod.sh("c", spec, "stat /dev/mine")
    assert "not permitted" in pod.sh("c", spec, "echo x 2>&1 >/dev/mine || true")


@pytest.mark.behaviour("NSP-02", "NSP-03")
@pytest.mark.parametrize("mode", [NamespaceMode.POD, NamespaceMode.CONTAINER, NamespaceMode.TARGET])
def test_pid_namespaces(pod: Pod, mode: NamespaceMode) -> None:
    target = pod.start("first", container(command=("sh", "-c", "echo ready; sleep 1001")))
    options = NamespaceOptions(pid=mode, target_id="first")
    spec = container(ContainerSecurity(namespaces=options), command=SLEEP)
    pod.start("c", spec, target_pid=target.pid)
    first = pod.sh("c", spec, "cat /proc/1/cmdline | tr '\\0' ' '", target_pid=target.pid)
    wanted = {NamespaceMode.POD: "/pause", NamespaceMode.CONTAINER: "sleep 1000", NamespaceMode.TARGET: "sleep 1001"}
    assert wanted[mode] in first


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Path]:
    """A shared mount with a mount in it."""
    source = tmp_path / "nested"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(source)], check=True)
    subprocess.run(["mount", "--make-shared", str(source)], check=True)
    (source / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(source / "below")], check=True)
    yield source
    subprocess.run(["umount", "--recursive", str(source)], check=True)


@pytest.mark.behaviour("MNT-06", "MNT-07")
@pytest.mark.parametrize("recursive", [False, True])
def test_readonly_mounts(pod: Pod, nested: Path, recursive: bool) -> None:
    mount = Mount("/mnt", str(nested), readonly=True, recursive_read_only=recursive)
    spec = container(command=SLEEP, mounts=(mount,))
    pod.start("c", spec)
    assert "Read-only" in pod.sh("c", spec, "touch /mnt/new 2>&1 || true")
    assert ("Read-only" in pod.sh("c", spec, "touch /mnt/below/new 2>&1 || true")) is recursive


@pytest.mark.behaviour("MNT-08")
@pytest.mark.parametrize("propagation", list(Propagation))
def test_propagation(pod: Pod, nested: Path, propagation: Propagation) -> None:
    if propagation is Propagation.BIDIRECTIONAL and pod.bundles.hides_mounts:
        pytest.skip("crun runs in a mount namespace here that keeps mounts from the host")
    spec = container(
        ContainerSecurity(namespaces=OWN_PID, privileged=True),
        command=SLEEP,
        mounts=(Mount("/mnt", str(nested), propagation=propagation),),
    )
    (nested / "in").mkdir()
    (nested / "out").mkdir()
    pod.start("c", spec)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(nested / "in")], check=True)
    (nested / "in/seen").touch()
    assert bool(pod.sh("c", spec, "ls /mnt/in")) is (propagation is not Propagation.PRIVATE)
    pod.sh("c", spec, "mount -t tmpfs none /mnt/out && touch /mnt/out/seen")
    assert (nested / "out/seen").exists() is (propagation is Propagation.BIDIRECTIONAL)


@pytest.mark.behaviour("NSP-07")
def test_user_namespace(runtime: Runtime) -> None:
    ids = (IdMapping(host_id=100_000, container_id=0, length=65_536),)
    options = NamespaceOptions(pid=NamespaceMode.CONTAINER, userns=UserNamespace(NamespaceMode.POD, ids, ids))
    record = SandboxSpec(
        METADATA, cgroup_parent=runtime.bundles.cgroup_parent, security=SandboxSecurity(namespaces=options)
    )
    with user_namespace(100_000, 65_536) as process:
        paths = {"netns_path": f"/proc/{process}/ns/net", "userns_path": f"/proc/{process}/ns/user"}
        pod = runtime.start_pod(record, user=ResolvedUser(0, 0), **paths)
        subprocess.run(["chown", "-hR", "100000:100000", str(pod.rootfs)], check=True)
        spec = container(ContainerSecurity(namespaces=options, seccomp=DEFAULT_SECCOMP), command=SLEEP)
        running = pod.start("c", spec)
        assert pod.sh("c", spec, "cat /proc/self/uid_map").split() == ["0", "100000", "65536"]
        assert pod.sh("c", spec, "id -u; cat /etc/hosts; ls /sys/class/net").split() == ["0", "our", "hosts", "lo"]
        assert os.stat(f"/proc/{running.pid}").st_uid == 100_000


@pytest.mark.behaviour("CRE-18")
def test_cdi_edits(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "library").write_text("of the device")
    edits = CdiEdits(
        env=("DEVICE=one",),
        mounts=(CdiMount(str(tmp_path / "library"), "/opt/library", ("ro", "nosuid", "bind")),),
        hooks=(CdiHook("createRuntime", "/bin/touch", ("touch", str(tmp_path / "hooked"))),),
        additional_gids=(44,),
    )
    spec = container(command=SLEEP, envs=(("DEVICE", "all"),))
    pod.start("c", spec, cdi=edits)
    assert (tmp_path / "hooked").exists()
    shown = pod.sh("c", spec, "cat /opt/library; echo; echo $DEVICE; id -G", cdi=edits)
    assert shown.splitlines() == ["of the device", "one", "0 44"]
