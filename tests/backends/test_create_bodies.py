"""The bodies of create calls: cri-dockerd's golden ones, and what is done differently on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from cri_dockerd_py.backends.docker.container_config import container_config, environment
from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.backends.docker.sandbox_config import sandbox_config
from cri_dockerd_py.errors import InvalidArgument, Unimplemented
from cri_dockerd_py.model.container import ContainerSpec, Mount
from cri_dockerd_py.model.node import CgroupDriver
from cri_dockerd_py.model.resources import HugepageLimit, Resources
from cri_dockerd_py.model.sandbox import PodMetadata, PortMapping, Protocol, SandboxSpec
from cri_dockerd_py.model.security import (
    Capabilities,
    ContainerSecurity,
    IdMapping,
    NamespaceMode,
    NamespaceOptions,
    ProfileType,
    SandboxSecurity,
    SecurityProfile,
    SelinuxOptions,
    UserNamespace,
)
from tests.backends.docker_values import FACTS, OWN_PID, SANDBOX_ID, container_spec, facts, prepared, sandbox_record

USERNS = NamespaceOptions(userns=UserNamespace(NamespaceMode.POD, (IdMapping(1000, 0, 10),), (IdMapping(1000, 0, 10),)))


def _sandbox(spec: SandboxSpec, given: DaemonFacts = FACTS, least: int = -1000) -> dict[str, Any]:
    return sandbox_config(spec, "pause:1", given, least_oom_score_adj=least)


def _container(spec: ContainerSpec, given: DaemonFacts = FACTS, **changes: Any) -> dict[str, Any]:
    return container_config(spec, sandbox_record(), prepared(**changes), given, log_path="/logs/app/0.log")


def _with(**security: Any) -> ContainerSpec:
    return container_spec(security=ContainerSecurity(**({"namespaces": OWN_PID} | security)))


def test_golden_sandbox() -> None:
    spec = SandboxSpec(
        PodMetadata("web-0", "u1", "prod"),
        hostname="web-0",
        port_mappings=(PortMapping(Protocol.TCP, 80, 8080), PortMapping(Protocol.TCP, 81)),
        labels={"app": "web", "io.kubernetes.pod.uid": "u1"},
        annotations={"kubernetes.io/config.seen": "2026-01-01T00:00:00Z"},
        cgroup_parent="/kubepods.slice/kubepods-podu1.slice",
    )
    assert _sandbox(spec) == {
        "Hostname": "web-0",
        "Image": "pause:1",
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {
            "app": "web",
            "io.kubernetes.pod.uid": "u1",
            "annotation.kubernetes.io/config.seen": "2026-01-01T00:00:00Z",
            "io.kubernetes.docker.type": "podsandbox",
            "io.kubernetes.container.name": "POD",
        },
        "HostConfig": {
            "IpcMode": "shareable",
            "NetworkMode": "none",
            "PidMode": "",
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
            "Sysctls": {},
            "OomScoreAdj": -998,
            "CpuShares": 2,
            "CgroupParent": "kubepods-podu1.slice",
            "Privileged": False,
            "ReadonlyRootfs": False,
            "GroupAdd": [],
            "SecurityOpt": ["no-new-privileges"],
            "ShmSize": 67108864,
            "LogConfig": {"Type": "none", "Config": {}},
            "MaskedPaths": None,
            "ReadonlyPaths": None,
        },
    }


def test_sandbox_on_the_node() -> None:
    node = NamespaceOptions(network=NamespaceMode.NODE, pid=NamespaceMode.NODE, ipc=NamespaceMode.NODE)
    security = SandboxSecurity(
        namespaces=node,
        selinux=SelinuxOptions(user="u", role="r", type="t", level="s0:c1"),
        run_as_user=1000,
        run_as_group=3000,
        readonly_rootfs=True,
        supplemental_groups=(2000, 1),
        privileged=True,
    )
    spec = SandboxSpec(PodMetadata("p", "u", "n"), hostname="ignored", sysctls={"a.b": "1"}, security=security)
    body = _sandbox(spec, facts(cgroup_driver=CgroupDriver.CGROUPFS), least=0)
    host = body["HostConfig"]
    assert (host["NetworkMode"], host["PidMode"], host["IpcMode"]) == ("host", "host", "host")
    assert (body["Hostname"], body["User"]) == ("", "1000:3000")
    assert host["SecurityOpt"] == [
        "label=user:u",
        "label=role:r",
        "label=type:t",
        "label=level:s0:c1",
        "no-new-privileges",
    ]
    assert (host["GroupAdd"], host["Sysctls"], host["OomScoreAdj"]) == (["2000", "1"], {"a.b": "1"}, 0)
    assert (host["Privileged"], host["ReadonlyRootfs"]) == (True, True)
    assert "Runtime" not in host


def test_two_host_ports_of_one_container_port() -> None:
    ports = (PortMapping(Protocol.UDP, 53, 5353, "10.0.0.1"), PortMapping(Protocol.UDP, 53, 53))
    bindings = _sandbox(SandboxSpec(PodMetadata("p", "u", "n"), port_mappings=ports))["HostConfig"]["PortBindings"]
    assert bindings == {
        "53/udp": [{"HostIp": "10.0.0.1", "HostPort": "5353"}, {"HostIp": "", "HostPort": "53"}],
    }


@pytest.mark.behaviour("RUN-05")
def test_runtime_handlers() -> None:
    for handler, runtime in (("", None), ("docker", None), ("crun", "crun"), ("runc", "runc")):
        spec = SandboxSpec(PodMetadata("p", "u", "n"), runtime_handler=handler)
        assert _sandbox(spec)["HostConfig"].get("Runtime") == runtime
        body = container_config(
            container_spec(), sandbox_record(runtime_handler=handler), prepared(), FACTS, log_path=""
        )
        assert body["HostConfig"].get("Runtime") == runtime
    with pytest.raises(InvalidArgument, match="kata"):
        _sandbox(SandboxSpec(PodMetadata("p", "u", "n"), runtime_handler="kata"))


@pytest.mark.parametrize("parent", ["/kubepods/burstable/podu1", "/.slice", "/x.slice/y"])
def test_cgroup_parent_of_the_wrong_driver_is_refused(parent: str) -> None:
    with pytest.raises(InvalidArgument, match="systemd"):
        _sandbox(SandboxSpec(PodMetadata("p", "u", "n"), cgroup_parent=parent))


def test_golden_container() -> None:
    spec = container_spec(
        command=("/bin/app",),
        envs=(("A", "1"),),
        labels={"io.kubernetes.container.name": "app", "io.kubernetes.docker.type": "liar"},
        annotations={"io.kubernetes.container.hash": "1a2b"},
        resources=Resources(
            memory_limit_bytes=134217728, cpu_shares=102, cpu_quota_us=10000, cpu_period_us=100000, oom_score_adj=993
        ),
        security=ContainerSecurity(
            namespaces=OWN_PID,
            no_new_privs=True,
            seccomp=SecurityProfile(ProfileType.RUNTIME_DEFAULT),
            masked_paths=("/proc/acpi",),
            readonly_paths=("/proc/sys",),
        ),
    )
    mount = Mount("/x", "/etc/x", readonly=True)
    body = container_config(
        spec,
        sandbox_record(runtime_handler="runc"),
        prepared(user="1000:3000", group_add=("2000",), mounts=[mount]),
        FACTS,
        log_path="/var/log/pods/prod_web-0_u1/app/0.log",
    )
    host = body.pop("HostConfig")
    assert body == {
        "Entrypoint": ["/bin/app"],
        "Cmd": None,
        "Env": ["A=1"],
        "Image": spec.image.image,
        "WorkingDir": "",
        "User": "1000:3000",
        "OpenStdin": False,
        "StdinOnce": False,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {
            "io.kubernetes.container.name": "app",
            "annotation.io.kubernetes.container.hash": "1a2b",
            "io.kubernetes.docker.type": "container",
            "io.kubernetes.sandbox.id": SANDBOX_ID,
            "io.kubernetes.container.logpath": "/var/log/pods/prod_web-0_u1/app/0.log",
        },
    }
    pod = f"container:{SANDBOX_ID}"
    assert host == {
        "Mounts": [
            {
                "Type": "bind",
                "Source": "/etc/x",
                "Target": "/x",
                "ReadOnly": True,
                "BindOptions": {"CreateMountpoint": True, "ReadOnlyNonRecursive": True},
            }
        ],
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Runtime": "runc",
        "NetworkMode": pod,
        "IpcMode": pod,
        "UTSMode": "",
        "PidMode": "",
        "Memory": 134217728,
        "MemorySwap": 134217728,
        "CpuShares": 102,
        "CpuQuota": 10000,
        "CpuPeriod": 100000,
        "OomScoreAdj": 993,
        "CgroupParent": "kubepods-podu1.slice",
        "GroupAdd": ["2000"],
        "Devices": [],
        "CapAdd": [],
        "CapDrop": [],
        "Privileged": False,
        "ReadonlyRootfs": False,
        "SecurityOpt": ["no-new-privileges"],
        "ShmSize": 67108864,
        "LogConfig": {"Type": "json-file", "Config": {}},
        "MaskedPaths": ["/proc/acpi"],
        "ReadonlyPaths": ["/proc/sys"],
    }


@pytest.mark.behaviour("CRE-15", "CAP-07", "SCC-01")
def test_container_without_any_security() -> None:
    body = _container(container_spec(security=ContainerSecurity()))
    host = body["HostConfig"]
    assert host["SecurityOpt"] == ["seccomp=unconfined"]
    assert (host["MaskedPaths"], host["ReadonlyPaths"]) == ([], [])
    assert host["PidMode"] == f"container:{SANDBOX_ID}"
    assert (body["Entrypoint"], body["Cmd"]) == (None, None)


@pytest.mark.behaviour("CAP-04", "MNT-18", "SCC-06")
def test_privileged_container() -> None:
    profile = SecurityProfile(ProfileType.LOCALHOST, "/p.json")
    host = _container(_with(privileged=True, seccomp=profile, masked_paths=("/x",)), seccomp_json="{}")["HostConfig"]
    assert host["SecurityOpt"] == ["seccomp=unconfined"]
    assert (host["MaskedPaths"], host["ReadonlyPaths"]) == (None, None)
    assert host["CgroupnsMode"] == "host"


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), ([], [])),
        (("net_admin",), ("MKNOD",), (["NET_ADMIN"], ["MKNOD"])),
        (("ALL",), ("MKNOD",), (["ALL"], ["MKNOD"])),
        (("NET_ADMIN",), ("ALL",), (["NET_ADMIN"], ["ALL"])),
        (("ALL", "CHOWN"), ("ALL",), (["CHOWN"], ["ALL"])),
        (("CHOWN", "KILL"), ("ALL", "KILL"), (["CHOWN"], ["ALL"])),
        (("CHOWN", "KILL"), ("KILL",), (["CHOWN"], ["KILL"])),
    ],
)
@pytest.mark.behaviour("CAP-01")
def test_capabilities(add: tuple[str, ...], drop: tuple[str, ...], expected: tuple[list[str], list[str]]) -> None:
    host = _container(_with(capabilities=Capabilities(add, drop)))["HostConfig"]
    assert (host["CapAdd"], host["CapDrop"]) == expected


@pytest.mark.behaviour("SCC-03", "SCC-04", "SCC-08")
def test_seccomp_profiles() -> None:
    default = _with(seccomp=SecurityProfile(ProfileType.RUNTIME_DEFAULT))
    local = _with(seccomp=SecurityProfile(ProfileType.LOCALHOST, "/p.json"))
    off = facts(security_options=frozenset({"name=seccomp,profile=unconfined"}))
    none = facts(security_options=frozenset())
    assert _container(default)["HostConfig"]["SecurityOpt"] == []
    assert _container(default, off)["HostConfig"]["SecurityOpt"] == ["seccomp=builtin"]
    assert _container(local, seccomp_json='{"a":1}')["HostConfig"]["SecurityOpt"] == ['seccomp={"a":1}']
    for spec in (default, local):
        with pytest.raises(InvalidArgument, match="seccomp"):
            _container(spec, none)
    assert _container(_with(seccomp=SecurityProfile(ProfileType.UNCONFINED)), none)["HostConfig"]["SecurityOpt"] == [
        "seccomp=unconfined"
    ]


@pytest.mark.behaviour("AAR-01", "AAR-02", "AAR-03", "AAR-04")
def test_apparmor_profiles() -> None:
    with_apparmor = facts(security_options=frozenset({"name=apparmor", "name=seccomp,profile=builtin"}))

    def options(profile: SecurityProfile | None, given: DaemonFacts, loaded: frozenset[str] | None = None) -> list[str]:
        spec = _with(apparmor=profile, seccomp=SecurityProfile(ProfileType.RUNTIME_DEFAULT))
        return list(_container(spec, given, apparmor_loaded=loaded)["HostConfig"]["SecurityOpt"])

    unconfined = SecurityProfile(ProfileType.UNCONFINED)
    default = SecurityProfile(ProfileType.RUNTIME_DEFAULT)
    local = SecurityProfile(ProfileType.LOCALHOST, "localhost/mine")
    assert options(None, FACTS) == options(unconfined, FACTS) == options(default, with_apparmor) == []
    assert options(unconfined, with_apparmor) == ["apparmor=unconfined"]
    assert options(local, with_apparmor, frozenset({"mine"})) == ["apparmor=mine"]
    for profile, given in ((default, FACTS), (local, FACTS)):
        with pytest.raises(InvalidArgument, match="AppArmor"):
            options(profile, given)
    with pytest.raises(InvalidArgument, match="not loaded"):
        options(local, with_apparmor, frozenset())


@pytest.mark.parametrize(
    ("options", "pid", "uts"),
    [
        (NamespaceOptions(), f"container:{SANDBOX_ID}", ""),
        (OWN_PID, "", ""),
        (NamespaceOptions(pid=NamespaceMode.NODE, network=NamespaceMode.NODE), "host", "host"),
        (NamespaceOptions(pid=NamespaceMode.TARGET, target_id="ee" * 32), "container:" + "ee" * 32, ""),
    ],
)
@pytest.mark.behaviour("NSP-02")
def test_namespaces(options: NamespaceOptions, pid: str, uts: str) -> None:
    host = _container(container_spec(security=ContainerSecurity(namespaces=options)))["HostConfig"]
    assert (host["PidMode"], host["UTSMode"], host["NetworkMode"]) == (pid, uts, f"container:{SANDBOX_ID}")


def test_what_docker_cannot_do_is_said() -> None:
    with pytest.raises(Unimplemented, match="user namespace"):
        _sandbox(SandboxSpec(PodMetadata("p", "u", "n"), security=SandboxSecurity(namespaces=USERNS)))
    with pytest.raises(Unimplemented, match="user namespace"):
        _container(_with(namespaces=USERNS))
    with pytest.raises(Unimplemented, match="ambient"):
        _container(_with(capabilities=Capabilities(add_ambient=("NET_RAW",))))


@pytest.mark.behaviour("RES-01", "RES-04", "RES-06")
def test_resources() -> None:
    def host(given: DaemonFacts = FACTS, **limits: Any) -> dict[str, Any]:
        return dict(_container(container_spec(resources=Resources(**limits)), given)["HostConfig"])

    assert host(memory_limit_bytes=64 << 20, memory_swap_limit_bytes=96 << 20)["MemorySwap"] == 96 << 20
    assert host(memory_limit_bytes=64 << 20, memory_swap_limit_bytes=-1)["MemorySwap"] == -1
    assert "Memory" not in host(cpu_quota_us=-1)
    assert host(cpu_quota_us=-1)["CpuQuota"] == -1
    assert host(hugepage_limits=(HugepageLimit("2MB", 0),))["OomScoreAdj"] == 0
    assert host(unified={"memory.oom.group": "1", "memory.swap.max": "0"})["OomScoreAdj"] == 0
    with pytest.raises(InvalidArgument, match="6 MiB"):
        host(memory_limit_bytes=4 << 20)
    for key in ("memory.bogus/../x", "cgroup.procs", "cgroup.kill", "memory.reclaim", "x", "../memory.max"):
        with pytest.raises(InvalidArgument, match=r"cgroup v2"):
            host(unified={key: "1"})
    with pytest.raises(InvalidArgument, match="v1"):
        host(facts(cgroup_version=1), unified={"memory.oom.group": "1"})


@pytest.mark.behaviour("RES-07")
def test_oom_score_is_raised_only_to_what_docker_may_set() -> None:
    spec = container_spec(resources=Resources(oom_score_adj=-997))
    assert _container(spec)["HostConfig"]["OomScoreAdj"] == -997
    assert _container(spec, least_oom_score_adj=0)["HostConfig"]["OomScoreAdj"] == 0


@pytest.mark.behaviour("CRE-16")
def test_stop_signal() -> None:
    assert "StopSignal" not in _container(container_spec())
    assert _container(container_spec(stop_signal=29))["StopSignal"] == "SIGUSR1"
    assert _container(container_spec(stop_signal=36))["StopSignal"] == "SIGRTMIN+1"


@pytest.mark.behaviour("CRE-11")
def test_environment() -> None:
    assert environment([("A", "1"), ("B", "x=y\nz"), ("A", "2")]) == ["A=2", "B=x=y\nz"]
    for value in ("a\0b", "\udcff"):
        with pytest.raises(InvalidArgument, match="environment variable 'A'"):
            environment([("A", value)])


def test_cdi_devices_are_requested_from_docker() -> None:
    host = _container(container_spec(), cdi_requests=["v.com/gpu=0", "v.com/gpu=1"])["HostConfig"]
    assert host["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": ["v.com/gpu=0"]},
        {"Driver": "cdi", "DeviceIDs": ["v.com/gpu=1"]},
    ]
