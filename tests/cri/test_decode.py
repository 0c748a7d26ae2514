"""What is accepted and what is refused, field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py.cri.decode import node as decode_node
from cri_dockerd_py.cri.decode.container import container_spec
from cri_dockerd_py.cri.decode.fields import MAP_LIMIT_BYTES
from cri_dockerd_py.cri.decode.image import image_spec, registry_auth
from cri_dockerd_py.cri.decode.sandbox import pull_sandbox, sandbox_spec
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import ContainerSpec, Propagation
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.sandbox import DnsConfig, PortMapping, Protocol, SandboxSpec
from cri_dockerd_py.model.security import (
    Capabilities,
    GroupsPolicy,
    IdMapping,
    NamespaceMode,
    ProfileType,
    SecurityProfile,
    SelinuxOptions,
    UserNamespace,
)
from tests.cri.conftest import container_config, sandbox_config

Change = Callable[[Any], object]
WHOLE = [cri.IDMapping(host_id=1000, container_id=0, length=10)]
LOCALHOST = cri.SecurityProfile.Localhost
UNCONFINED = cri.SecurityProfile.Unconfined


def sandbox(change: Change = lambda config: None, runtime_handler: str = "") -> SandboxSpec:
    """Return the spec of a pod's config after a change."""
    config = sandbox_config()
    change(config)
    return sandbox_spec(config, runtime_handler)


def container(change: Change = lambda config: None) -> ContainerSpec:
    """Return the spec of a container's config after a change."""
    request = cri.CreateContainerRequest(pod_sandbox_id="a", config=container_config())
    change(request.config)
    return container_spec(request)


def security(change: Change) -> Change:
    """Return a change of a config's security context."""
    return lambda config: change(config.linux.security_context)


def namespaces(change: Change) -> Change:
    """Return a change of a config's namespace options."""
    return security(lambda context: change(context.namespace_options))


def resources(**limits: Any) -> Change:
    """Return a change of a container's resources."""
    return lambda config: config.linux.resources.MergeFrom(cri.LinuxContainerResources(**limits))


def mount(**fields: Any) -> Change:
    """Return a change that adds a mount."""
    return lambda config: config.mounts.append(cri.Mount(**{"container_path": "/c", "host_path": "/h", **fields}))


def put(path: str, value: Any) -> Change:
    """Return a change that sets a field."""
    *parents, last = path.split(".")

    def change(config: Any) -> None:
        for parent in parents:
            config = getattr(config, parent)
        setattr(config, last, value)

    return change


def extend(path: str, *values: Any) -> Change:
    """Return a change that adds to a repeated field."""
    *parents, last = path.split(".")

    def change(config: Any) -> None:
        for parent in parents:
            config = getattr(config, parent)
        getattr(config, last).extend(values)

    return change


def entry(path: str, key: str, value: str) -> Change:
    """Return a change that sets an entry of a map."""
    *parents, last = path.split(".")

    def change(config: Any) -> None:
        for parent in parents:
            config = getattr(config, parent)
        getattr(config, last)[key] = value

    return change


def userns(**fields: Any) -> Change:
    """Return a change that asks for a user namespace."""
    return namespaces(lambda options: options.userns_options.CopyFrom(cri.UserNamespace(**fields)))


def seccomp_file(path: str) -> Change:
    """Return a change that asks for a seccomp profile of this node."""
    profile = cri.SecurityProfile(profile_type=LOCALHOST, localhost_ref=path)
    return security(lambda context: context.seccomp.CopyFrom(profile))


BAD_SANDBOXES: list[tuple[Change, str]] = [
    (lambda config: config.ClearField("metadata"), "config.metadata is missing"),
    (put("metadata.name", ""), "config.metadata.name is missing"),
    (put("metadata.uid", ""), "config.metadata.uid is missing"),
    (put("metadata.namespace", ""), "config.metadata.namespace is missing"),
    (put("metadata.name", "../etc"), r"config.metadata.name: '../etc' is not allowed"),
    (put("metadata.uid", ".."), "config.metadata.uid"),
    (put("metadata.uid", "a/b"), "config.metadata.uid"),
    (put("metadata.name", "a\0b"), r"'a\\x00b'"),
    (put("metadata.name", "a\n"), "config.metadata.name"),
    (put("metadata.name", "x" * 254), r"\(254 characters\)"),
    (put("metadata.namespace", "ünï"), r"'\\xfcn\\xef'"),
    (put("hostname", "-x"), "config.hostname"),
    (put("hostname", "x" * 65), "config.hostname"),
    (put("hostname", "a b"), "config.hostname"),
    (put("hostname", "a\nnameserver 1.1.1.1"), "config.hostname"),
    (put("log_directory", "var/log"), "config.log_directory.*absolute"),
    (put("log_directory", "/var/../etc"), r"config.log_directory.*'\.\.'"),
    (put("log_directory", "/var/\0"), "config.log_directory"),
    (put("log_directory", "/" + "x" * 4096), "config.log_directory"),
    (put("linux.cgroup_parent", "/kubepods/../../x"), "config.linux.cgroup_parent"),
    (put("linux.cgroup_parent", "/a\n"), "config.linux.cgroup_parent"),
    (entry("labels", "key", "x" * MAP_LIMIT_BYTES), "config.labels: .* bytes"),
    (entry("annotations", "x" * (MAP_LIMIT_BYTES // 2), "ü" * (MAP_LIMIT_BYTES // 4 + 1)), "config.annotations"),
    (extend("dns_config.servers", "8.8.8.8\nsearch evil"), r"config.dns_config.servers\[0\].*control"),
    (extend("dns_config.servers", "example.org"), r"config.dns_config.servers\[0\].*IPv4 or IPv6"),
    (extend("dns_config.servers", ""), r"config.dns_config.servers\[0\] is missing"),
    (extend("dns_config.servers", *["1.1.1.1"] * 65), "config.dns_config.servers: 65 entries"),
    (extend("dns_config.searches", "a b"), r"config.dns_config.searches\[0\].*white space"),
    (extend("dns_config.searches", "ok", "x" * 256), r"config.dns_config.searches\[1\]"),
    (extend("dns_config.options", "ndots:5\u2028x"), r"config.dns_config.options\[0\]"),
    (extend("port_mappings", cri.PortMapping(container_port=70000, host_port=1)), r"port_mappings\[0\].container_port"),
    (extend("port_mappings", cri.PortMapping(container_port=0, host_port=1)), r"port_mappings\[0\].container_port"),
    (extend("port_mappings", cri.PortMapping(container_port=1, host_port=-1)), r"port_mappings\[0\].host_port"),
    (extend("port_mappings", cri.PortMapping(container_port=1, host_ip="1.2.3")), r"port_mappings\[0\].host_ip"),
    (lambda config: config.port_mappings.add(protocol=7), r"port_mappings\[0\].protocol: 7 .*TCP \(0\), UDP \(1\)"),
    (entry("linux.sysctls", "vm.overcommit_memory", "1"), "belongs to no namespace"),
    (entry("linux.sysctls", "kernel.hostname", "x"), "belongs to no namespace"),
    (entry("linux.sysctls", "net/../../etc/passwd", "1"), "not the name of a sysctl"),
    (entry("linux.sysctls", "net..core", "1"), "not the name of a sysctl"),
    (entry("linux.sysctls", "", "1"), "not the name of a sysctl"),
    (entry("linux.sysctls", "net.core.somaxconn", "1\n2"), "control characters"),
    (security(put("run_as_user.value", -1)), "config.linux.security_context.run_as_user: -1"),
    (security(put("run_as_group.value", 2**32 - 1)), "run_as_group"),
    (security(extend("supplemental_groups", 5, -5)), r"supplemental_groups\[1\]: -5"),
    (security(put("supplemental_groups_policy", 9)), "supplemental_groups_policy: 9"),
    (security(put("selinux_options.level", "s0 s1")), "selinux_options.level"),
    (namespaces(put("network", cri.CONTAINER)), "namespace_options.network: 'CONTAINER'"),
    (namespaces(put("network", cri.TARGET)), "namespace_options.network"),
    (namespaces(put("ipc", cri.TARGET)), "namespace_options.ipc"),
    (namespaces(put("pid", cri.TARGET)), "namespace_options.pid"),
    (namespaces(put("pid", 17)), "namespace_options.pid: 17"),
    (userns(mode=cri.CONTAINER), "userns_options.mode"),
    (userns(mode=cri.TARGET), "userns_options.mode"),
    (userns(mode=cri.NODE, uids=WHOLE), "userns_options: mode NODE"),
    (userns(mode=cri.POD), "userns_options.uids: give exactly one mapping"),
    (userns(mode=cri.POD, uids=WHOLE), "userns_options.gids: give exactly one mapping"),
    (userns(mode=cri.POD, uids=WHOLE * 2, gids=WHOLE), "userns_options.uids: give exactly one mapping"),
    (userns(mode=cri.POD, uids=WHOLE, gids=[cri.IDMapping(container_id=1, length=5)]), "container_id 0"),
    (userns(mode=cri.POD, uids=WHOLE, gids=[cri.IDMapping(host_id=1)]), r"gids\[0\].length: 0"),
    (userns(mode=cri.POD, uids=[cri.IDMapping(host_id=2**32 - 1, length=2)]), r"uids\[0\].length: 2"),
    (security(put("seccomp.profile_type", 8)), "seccomp.profile_type: 8"),
    (security(put("seccomp.localhost_ref", "/x")), "seccomp.localhost_ref is set"),
    (security(put("seccomp_profile_path", "mine")), "seccomp_profile_path: 'mine'"),
    (lambda config: config.linux.resources.MergeFrom(cri.LinuxContainerResources(cpu_period=-1)), "linux.resources"),
    (lambda config: config.linux.overhead.MergeFrom(cri.LinuxContainerResources(cpu_shares=-1)), "linux.overhead"),
]

BAD_CONTAINERS: list[tuple[Change, str]] = [
    (lambda config: config.ClearField("metadata"), "config.metadata is missing"),
    (lambda config: config.ClearField("image"), "config.image is missing"),
    (put("metadata.name", ""), "config.metadata.name is missing"),
    (put("metadata.name", "a b"), "config.metadata.name"),
    (put("image.image", ""), "config.image.image is missing"),
    (put("image.image", "a\0"), "config.image.image"),
    (put("working_dir", "tmp"), "config.working_dir.*absolute"),
    (put("log_path", "/etc/passwd"), "config.log_path"),
    (put("log_path", "../../etc"), "config.log_path"),
    (put("log_path", "a/../../b"), "config.log_path"),
    (put("log_path", "./."), "config.log_path"),
    (put("log_path", "a\0"), "config.log_path"),
    (put("stop_signal", 99), "config.stop_signal: 99"),
    (extend("command", "sh", "-c\0"), r"config.command\[1\]"),
    (extend("args", "\0"), r"config.args\[0\]"),
    (extend("envs", cri.KeyValue(key="", value=b"x")), r"config.envs\[0\].key"),
    (extend("envs", cri.KeyValue(key="A=B", value=b"x")), r"config.envs\[0\].key"),
    (extend("envs", cri.KeyValue(key="A\0", value=b"x")), r"config.envs\[0\].key"),
    (extend("envs", cri.KeyValue(key="A", value=b"topsecret\0")), r"config.envs\[0\] \('A'\): the value has a NUL"),
    (mount(container_path="relative"), r"config.mounts\[0\].container_path.*absolute"),
    (mount(container_path=""), r"config.mounts\[0\].container_path"),
    (mount(container_path="//"), r"config.mounts\[0\].container_path.*root"),
    (mount(container_path="/a\0"), r"config.mounts\[0\].container_path.*NUL"),
    (mount(host_path=""), r"config.mounts\[0\].host_path.*absolute"),
    (mount(host_path="x"), r"config.mounts\[0\].host_path"),
    (mount(recursive_read_only=True), "recursive_read_only"),
    (mount(recursive_read_only=True, readonly=True, propagation=1), "recursive_read_only"),
    (mount(image_sub_path="x"), "image_sub_path"),
    (mount(image=cri.ImageSpec(image="busybox"), readonly=True), "host_path.*leave it empty"),
    (mount(image=cri.ImageSpec(image="busybox"), host_path=""), "read-only"),
    (mount(image=cri.ImageSpec(), host_path="", readonly=True), "image.image is missing"),
    (mount(image=cri.ImageSpec(image="x"), host_path="", readonly=True, image_sub_path="/etc"), "image_sub_path"),
    (mount(image=cri.ImageSpec(image="x"), host_path="", readonly=True, image_sub_path="a/../.."), "image_sub_path"),
    (mount(uidMappings=[cri.IDMapping(length=0)]), r"uidMappings\[0\].length"),
    (extend("devices", cri.Device(container_path="/d", host_path="/d", permissions="rx")), r"devices\[0\].permissions"),
    (extend("devices", cri.Device(container_path="/d", host_path="/d")), r"devices\[0\].permissions"),
    (extend("devices", cri.Device(container_path="d", host_path="/d", permissions="r")), "container_path"),
    (extend("devices", cri.Device(container_path="/d", permissions="r")), "host_path"),
    (extend("CDI_devices", cri.CDIDevice(name="")), r"CDI_devices\[0\] is missing"),
    (security(put("run_as_group.value", 5)), "run_as_group is set without a user"),
    (security(put("run_as_user.value", 2**32)), "run_as_user"),
    (security(put("run_as_username", "root:docker")), "run_as_username"),
    (security(put("run_as_username", "a b")), "run_as_username"),
    (security(extend("capabilities.add_capabilities", "NET_ADMIN", "FLY")), r"add_capabilities\[1\]: 'FLY'"),
    (security(extend("capabilities.drop_capabilities", "")), r"drop_capabilities\[0\]"),
    (security(extend("capabilities.add_ambient_capabilities", "x" * 999)), r"add_ambient_capabilities\[0\]"),
    (security(extend("masked_paths", "proc")), r"masked_paths\[0\]"),
    (security(extend("readonly_paths", "/a\0")), r"readonly_paths\[0\]"),
    (namespaces(put("pid", cri.TARGET)), "target_id"),
    (namespaces(put("target_id", "a\nb")), "target_id"),
    (security(put("seccomp.profile_type", LOCALHOST)), "seccomp.localhost_ref is missing"),
    (
        security(lambda c: c.seccomp.MergeFrom(cri.SecurityProfile(profile_type=LOCALHOST, localhost_ref="x.json"))),
        "absolute",
    ),
    (
        security(lambda c: c.seccomp.MergeFrom(cri.SecurityProfile(profile_type=LOCALHOST, localhost_ref="/a/../x"))),
        r"'\.\.'",
    ),
    (security(put("apparmor.localhost_ref", "x")), "apparmor.localhost_ref is set"),
    (security(put("apparmor.profile_type", 5)), "apparmor.profile_type: 5"),
    (security(put("apparmor_profile", "docker-default")), "apparmor_profile: 'docker-default'"),
    (security(put("apparmor_profile", "localhost/")), "is missing"),
    (resources(cpu_period=1_000_001), "linux.resources.cpu_period"),
    (resources(cpu_quota=-2), "cpu_quota: -2"),
    (resources(cpu_shares=300_000), "cpu_shares"),
    (resources(memory_limit_in_bytes=-2), "memory_limit_in_bytes"),
    (resources(memory_swap_limit_in_bytes=-2), "memory_swap_limit_in_bytes"),
    (resources(oom_score_adj=-1001), "oom_score_adj"),
    (resources(oom_score_adj=1001), "oom_score_adj"),
    (resources(cpuset_cpus="0-"), "cpuset_cpus"),
    (resources(cpuset_cpus="3-1"), "backwards"),
    (resources(cpuset_mems="0\n"), "cpuset_mems"),
    (resources(cpuset_cpus="0," * 5000), "cpuset_cpus"),
    (resources(hugepage_limits=[cri.HugepageLimit(page_size="big")]), r"hugepage_limits\[0\].page_size"),
    (resources(unified={"../x": "1"}), "unified key"),
    (resources(unified={"memory.high": "\0"}), r"unified\[memory.high\]"),
]


@pytest.mark.behaviour("GEN-16", "RUN-01", "RUN-14", "NSP-01", "NSP-06")
@pytest.mark.parametrize(("change", "message"), BAD_SANDBOXES)
def test_refused_sandboxes(change: Change, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        sandbox(change)

    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@pytest.mark.behaviour("GEN-16", "CRE-01", "CRE-11", "MNT-07", "MNT-14", "USR-01", "AAR-05", "SCC-07")
@pytest.mark.parametrize(("change", "message"), BAD_CONTAINERS)
def test_refused_containers(change: Change, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        container(change)

    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
    assert "topsecret" not in str(caught.value)


def test_a_container_without_config_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="config is missing"):
        container_spec(cri.CreateContainerRequest(pod_sandbox_id="a"))


def test_a_full_sandbox() -> None:
    ports = [cri.PortMapping(protocol=cri.SCTP, container_port=1, host_port=2, host_ip="::1"), cri.PortMapping()]
    dns = cri.DNSConfig(servers=["10.0.0.1", "fe80::1%eth0"], searches=["a.b", "."], options=["ndots:5"])
    linux = cri.LinuxPodSandboxConfig(
        cgroup_parent="/kubepods.slice/x.slice",
        sysctls={"net/ipv4/conf/eth0.1/rp_filter": "1", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "100"},
        overhead=cri.LinuxContainerResources(),
    )
    config = sandbox_config(
        "a_b.c-d",
        hostname="web.example",
        log_directory="/var/log//pods/./web/",
        dns_config=dns,
        port_mappings=ports,
        labels={"a": ""},
        linux=linux,
    )
    spec = sandbox_spec(config, "crun")

    assert spec.metadata.name == "a_b.c-d"
    assert spec.log_directory == "/var/log/pods/web"
    assert spec.dns == DnsConfig(("10.0.0.1", "fe80::1%eth0"), ("a.b", "."), ("ndots:5",))
    assert spec.port_mappings == (PortMapping(Protocol.SCTP, 1, 2, "::1"), PortMapping(Protocol.TCP, 0))
    assert set(spec.sysctls) == {"net.ipv4.conf.eth0/1.rp_filter", "kernel.shm_rmid_forced", "fs.mqueue.msg_max"}
    assert (spec.runtime_handler, spec.cgroup_parent) == ("crun", "/kubepods.slice/x.slice")
    assert spec.overhead is not None
    assert spec.resources is None


@pytest.mark.behaviour("RUN-11", "NET-02")
def test_an_empty_sandbox() -> None:
    spec = sandbox(lambda config: config.ClearField("log_directory"))

    assert (spec.dns, spec.log_directory, spec.overhead) == (None, "", None)
    assert spec.security.namespaces.network is NamespaceMode.POD
    assert sandbox(lambda config: config.dns_config.SetInParent()).dns == DnsConfig()


@pytest.mark.behaviour("RUN-14")
def test_a_sysctl_as_the_kernel_shows_it() -> None:
    spec = sandbox(entry("linux.sysctls", "net.ipv4.tcp_rmem", "4096\t131072\t6291456"))
    assert spec.sysctls == {"net.ipv4.tcp_rmem": "4096 131072 6291456"}


@pytest.mark.behaviour("RUN-14")
@pytest.mark.parametrize(("field", "key"), [("network", "net.core.somaxconn"), ("ipc", "kernel.sem")])
def test_a_sysctl_of_the_nodes_namespace_is_refused(field: str, key: str) -> None:
    def change(config: Any) -> None:
        config.linux.sysctls[key] = "1"
        setattr(config.linux.security_context.namespace_options, field, cri.NODE)

    with pytest.raises(InvalidArgument, match="would be the node's"):
        sandbox(change)


def test_users_of_sandboxes() -> None:
    spec = sandbox(security(put("run_as_group.value", 5)))
    assert (spec.security.run_as_user, spec.security.run_as_group) == (None, None)

    def both(context: Any) -> None:
        context.run_as_user.value = 0
        context.run_as_group.value = 2**32 - 2

    spec = sandbox(security(both))
    assert (spec.security.run_as_user, spec.security.run_as_group) == (0, 2**32 - 2)


@pytest.mark.behaviour("NSP-06", "NSP-08")
def test_user_namespaces() -> None:
    assert sandbox().security.namespaces.userns is None
    assert sandbox(userns(mode=cri.NODE)).security.namespaces.userns == UserNamespace(NamespaceMode.NODE)
    whole = (IdMapping(1000, 0, 10),)
    own = userns(mode=cri.POD, uids=WHOLE, gids=WHOLE)
    assert sandbox(own).security.namespaces.userns == UserNamespace(NamespaceMode.POD, whole, whole)

    def with_host_network(config: Any) -> None:
        own(config)
        config.linux.security_context.namespace_options.network = cri.NODE

    with pytest.raises(InvalidArgument, match="node's network"):
        sandbox(with_host_network)


@pytest.mark.behaviour("USR-01")
def test_users_of_containers() -> None:
    def both(context: Any) -> None:
        context.run_as_user.value = 5
        context.run_as_group.value = 6
        context.run_as_username = "nobody"
        context.supplemental_groups.extend([7, 8])
        context.supplemental_groups_policy = cri.Strict

    chosen = container(security(both)).security
    assert (chosen.run_as_username, chosen.run_as_user, chosen.run_as_group) == ("nobody", None, 6)
    assert (chosen.supplemental_groups, chosen.groups_policy) == ((7, 8), GroupsPolicy.STRICT)


@pytest.mark.behaviour("CAP-01")
def test_capabilities_are_normalised() -> None:
    chosen = container(security(extend("capabilities.add_capabilities", "cap_net_admin", "Sys_Time", "NET_ADMIN")))
    assert chosen.security.capabilities == Capabilities(add=("NET_ADMIN", "SYS_TIME"))
    assert container(security(extend("capabilities.drop_capabilities", "all"))).security.capabilities.drop == ("ALL",)


@pytest.mark.behaviour("SCC-01", "SCC-02", "SCC-03", "SCC-04", "SCC-07")
@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (None, "", None),
        (None, "unconfined", SecurityProfile(ProfileType.UNCONFINED)),
        (None, "runtime/default", SecurityProfile(ProfileType.RUNTIME_DEFAULT)),
        (None, "docker/default", SecurityProfile(ProfileType.RUNTIME_DEFAULT)),
        (None, "localhost//a/b.json", SecurityProfile(ProfileType.LOCALHOST, "/a/b.json")),
        (cri.SecurityProfile(), "unconfined", SecurityProfile(ProfileType.RUNTIME_DEFAULT)),
        (cri.SecurityProfile(profile_type=UNCONFINED), "", SecurityProfile(ProfileType.UNCONFINED)),
        (
            cri.SecurityProfile(profile_type=LOCALHOST, localhost_ref="/a/b.json"),
            "unconfined",
            SecurityProfile(ProfileType.LOCALHOST, "/a/b.json"),
        ),
        (
            cri.SecurityProfile(profile_type=LOCALHOST, localhost_ref="localhost//a/b.json"),
            "",
            SecurityProfile(ProfileType.LOCALHOST, "/a/b.json"),
        ),
    ],
)
def test_seccomp(new: cri.SecurityProfile | None, old: str, expected: SecurityProfile | None) -> None:
    def change(context: Any) -> None:
        context.seccomp_profile_path = old
        if new is not None:
            context.seccomp.CopyFrom(new)

    assert container(security(change)).security.seccomp == expected
    assert sandbox(security(change)).security.seccomp == expected


@pytest.mark.behaviour("AAR-03", "AAR-05")
@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (None, "", None),
        (None, "unconfined", SecurityProfile(ProfileType.UNCONFINED)),
        (None, "localhost/mine", SecurityProfile(ProfileType.LOCALHOST, "mine")),
        (cri.SecurityProfile(profile_type=UNCONFINED), "localhost/mine", SecurityProfile(ProfileType.UNCONFINED)),
        (
            cri.SecurityProfile(profile_type=LOCALHOST, localhost_ref="localhost/mine"),
            "",
            SecurityProfile(ProfileType.LOCALHOST, "mine"),
        ),
    ],
)
def test_apparmor(new: cri.SecurityProfile | None, old: str, expected: SecurityProfile | None) -> None:
    def change(context: Any) -> None:
        context.apparmor_profile = old
        if new is not None:
            context.apparmor.CopyFrom(new)

    assert container(security(change)).security.apparmor == expected


@pytest.mark.behaviour("SEL-01")
def test_selinux() -> None:
    assert container(security(lambda c: c.selinux_options.SetInParent())).security.selinux is None
    chosen = container(security(put("selinux_options.level", "s0:c1,c2"))).security.selinux
    assert chosen == SelinuxOptions(level="s0:c1,c2")


@pytest.mark.behaviour("CRE-11")
def test_environment_keeps_order_and_bytes() -> None:
    given = [("B", b"1=2\n"), ("A", b"\xff\xfe"), ("B", "ü".encode())]
    envs = container(extend("envs", *(cri.KeyValue(key=key, value=value) for key, value in given))).envs

    assert [(key, value.encode("utf-8", "surrogateescape")) for key, value in envs] == given


@pytest.mark.behaviour("MNT-09")
def test_unknown_propagation_is_private() -> None:
    [chosen] = container(lambda config: config.mounts.add(container_path="/c", host_path="/h", propagation=9)).mounts

    assert chosen.propagation is Propagation.PRIVATE


def test_windows_is_ignored() -> None:
    def change(config: Any) -> None:
        config.windows.security_context.run_as_username = "\0"

    assert container(change) == container()
    assert sandbox(change) == sandbox()


def test_annotations_may_be_as_large_as_the_api_allows() -> None:
    value = "x" * (256 << 10)

    assert sandbox(entry("annotations", "k", value)).annotations == {"k": value}


AUTHS: list[tuple[dict[str, str], RegistryAuth | None]] = [
    ({}, None),
    ({"server_address": "example.org"}, None),
    ({"username": "u", "password": "p"}, RegistryAuth("u", "p")),
    ({"auth": "dTpwOnE="}, RegistryAuth("u", "p:q")),
    ({"auth": "dTpwAAA="}, RegistryAuth("u", "p")),
    ({"auth": "dTpw\0\0"}, RegistryAuth("u", "p")),
    ({"username": "u", "password": "p", "auth": "!!"}, RegistryAuth("u", "p")),
    ({"identity_token": "t", "auth": "!!"}, RegistryAuth(identity_token="t")),
    ({"registry_token": "r"}, RegistryAuth(registry_token="r")),
]


@pytest.mark.behaviour("IMG-36")
@pytest.mark.parametrize(("given", "expected"), AUTHS)
def test_credentials(given: dict[str, str], expected: RegistryAuth | None) -> None:
    assert registry_auth(cri.AuthConfig(**given)) == expected


@pytest.mark.behaviour("IMG-36", "IMG-43")
@pytest.mark.parametrize(
    "given",
    [
        {"auth": "topsecret!"},
        {"auth": "dG9wc2VjcmV0"},
        {"auth": "gIA6gA=="},
        {"username": "u", "password": "topsecret\n"},
    ],
)
def test_bad_credentials_are_not_shown(given: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="auth") as caught:
        registry_auth(cri.AuthConfig(**given))

    assert "topsecret" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_images_need_a_name() -> None:
    with pytest.raises(InvalidArgument, match=r"image\.image is missing"):
        image_spec("image", cri.ImageSpec(user_specified_image="busybox"))


@pytest.mark.behaviour("IMG-39")
def test_the_pod_of_a_pull_may_lack_everything() -> None:
    spec = pull_sandbox(cri.PodSandboxConfig(labels={"a": "b"}, log_directory="not/absolute"))

    assert (spec.labels, spec.metadata.name) == ({"a": "b"}, "")


@pytest.mark.behaviour("STA-22")
def test_pod_cidrs() -> None:
    def config(cidr: str) -> cri.RuntimeConfig:
        return cri.RuntimeConfig(network_config=cri.NetworkConfig(pod_cidr=cidr))

    assert decode_node.pod_cidr(cri.RuntimeConfig()) == ""
    assert decode_node.pod_cidr(config("10.1.2.3/16 ,fd00::/64")) == "10.1.2.3/16,fd00::/64"
    for bad in ("10.1.0.0/33", "x", ",", "10.0.0.0/8,\n"):
        with pytest.raises(InvalidArgument, match="pod_cidr"):
            decode_node.pod_cidr(config(bad))


@pytest.mark.behaviour("STO-02", "CKP-03")
def test_times() -> None:
    assert [decode_node.seconds(value) for value in (-(2**63), -1, 0, 7)] == [0, 0, 0, 7]
    assert decode_node.seconds(2**63 - 1) == 2**31 - 1
    assert decode_node.checkpoint_timeout(5) == 5
    with pytest.raises(InvalidArgument, match="timeout: -1"):
        decode_node.checkpoint_timeout(-1)


@pytest.mark.behaviour("CKP-02")
@pytest.mark.parametrize("location", ["", "x.tar", "/a/../b", "/a\0"])
def test_checkpoint_locations(location: str) -> None:
    with pytest.raises(InvalidArgument, match="location"):
        decode_node.checkpoint_location(location)


def test_unknown_states_in_filters_are_refused() -> None:
    bad_pod: Any = cri.PodSandboxFilter(state=cri.PodSandboxStateValue())
    bad_pod.state.state = 5
    bad_container: Any = cri.ContainerFilter(state=cri.ContainerStateValue())
    bad_container.state.state = 5
    with pytest.raises(InvalidArgument, match=r"filter.state.state: 5 .*READY \(0\)"):
        decode_node.sandbox_state(bad_pod)
    with pytest.raises(InvalidArgument, match=r"filter.state.state: 5 .*CREATED \(0\)"):
        decode_node.container_state(bad_container)
