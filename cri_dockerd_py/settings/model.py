"""The one definition of all settings; its descriptions are the flags' help and the config file's comments.

A plain dataclass: the service holds one for as long as it lives, without what reads and validates the settings.
The annotations are read by `load` alone, so nothing here imports what they are made of.
"""

# ruff: noqa: RUF009  (a setting's default is a field of the dataclass)

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from cri_dockerd_py.settings.values import (
        AbsolutePath,
        AbsolutePaths,
        AdminEndpoint,
        BindAddress,
        CommaList,
        ContainerdNamespace,
        DockerEndpoint,
        DriverName,
        ListenEndpoint,
        LogLevel,
        MetricsAddress,
        Name,
        NetworkPlugin,
        NotNegative,
        OptionalName,
        OptionalPath,
        PerMillion,
        RuntimeTables,
        Seconds,
        TracingEndpoint,
        UnixEndpoint,
    )

ENV_PREFIX = "CRI_DOCKERD_PY_"
# cri-dockerd's flags that change nothing here → why
WITHOUT_EFFECT = {
    "network_plugin": "pods always get their network from CNI",
    "network_plugin_mtu": "the MTU is set in the CNI configuration",
    "hairpin_mode": "hairpin mode is set in the CNI configuration",
    "ipv6_dual_stack": "every address that CNI gives a pod is reported",
    "runtime_cgroups": "the engine's cgroup is its service manager's business",
}
# What a reload changes; the rest waits for the next start.
RELOADABLE = frozenset({"log_level", "log_format", "pod_cidr"})


def _setting(default: Any, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set; see `cri-dockerd-py config show --defaults`."""

    container_runtime_endpoint: ListenEndpoint = _setting(
        "unix:///run/cri-dockerd-py.sock", "where to serve CRI: unix:///path, or fd:// for systemd's socket"
    )
    backend: Literal["docker", "containerd", "both", "auto"] = _setting(
        "auto",
        "the engines for pods; auto is every one that answers at start or has pods of this node. Of two, the default "
        "for new pods is chosen at run time, and is docker at first",
    )
    docker_endpoint: DockerEndpoint = _setting(
        "unix:///var/run/docker.sock", "Docker Engine's socket; empty: DOCKER_HOST, or the default"
    )
    containerd_endpoint: UnixEndpoint = _setting("unix:///run/containerd/containerd.sock", "containerd's socket")
    containerd_namespace: ContainerdNamespace = _setting("k8s.io", "containerd's namespace for pods and images")
    containerd_snapshotter: Name = _setting(
        "overlayfs", "containerd's snapshotter for images and containers whose handler names no other"
    )
    containerd_runtimes: RuntimeTables = _setting(
        (),
        "runtime handlers of containerd beside the default one, which is runc: a table for each, such as "
        "[containerd_runtimes.crun] with the option BinaryName; the names in it are those of containerd's "
        "CRI plugin (runtime_type, runtime_path, options, pod_annotations, container_annotations, base_runtime_spec, "
        "privileged_without_host_devices, cgroup_writable, snapshotter); a table named runc changes the default",
    )
    cgroup_driver: Literal["auto", "systemd", "cgroupfs"] = _setting(
        "auto",
        "who makes containers' cgroups on containerd (Docker has its own setting); auto: as the pod's cgroup parent "
        "shows, and systemd where it runs",
    )
    registry_config_path: AbsolutePaths = _setting(
        (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d")),
        "where certs.d directories with registries' hosts.toml files and certificates are, for pulls to containerd",
    )
    admin_endpoint: AdminEndpoint = _setting(
        "", "where `status` and `migrate` reach the service, for root alone; empty: admin/admin.sock in state_dir"
    )
    root_dir: AbsolutePath = _setting(Path("/var/lib/cri-dockerd-py"), "what must survive a reboot")
    state_dir: AbsolutePath = _setting(Path("/run/cri-dockerd-py"), "what need not survive a reboot")
    cri_dockerd_root_directory: AbsolutePaths = _setting(
        (Path("/var/lib/cri-dockerd"), Path("/var/lib/dockershim")),
        "where other CRI servers for Docker left the checkpoints of their pods, which are served like ours",
    )
    runtime_name: OptionalName = _setting(
        "",
        "the runtime's name in Version and in container ids (docker://…), which must never change on a node; "
        "empty: the first default engine that the node has, whatever becomes the default later",
    )

    pod_infra_container_image: str = _setting("", "the image of the pause container; empty: the built-in one")
    image_pull_progress_deadline: Seconds = _setting(60.0, "give up a pull that made no progress for so long; 0: never")
    runtime_request_timeout: Seconds = _setting(0.0, "the limit of a short call to the engine; 0: 119 seconds")
    exec_drain_timeout: Seconds = _setting(
        2.0, "how long to read on after a command ended whose children keep its output open"
    )
    resync_interval: Seconds = _setting(300.0, "how often to compare what is remembered with the engine's own lists")

    cni_conf_dir: AbsolutePath = _setting(Path("/etc/cni/net.d"), "where CNI configurations are")
    cni_bin_dir: AbsolutePaths = _setting(
        (Path("/opt/cni/bin"), Path("/usr/lib/cni")), "where CNI plugins are, in order of preference"
    )
    cni_cache_dir: AbsolutePath = _setting(Path("/var/lib/cni/cache"), "where CNI results are kept, in libcni's format")
    cni_timeout: Seconds = _setting(220.0, "the limit for setting up, or taking down, the network of one pod")
    cni_gc: bool = _setting(
        False,
        "after start, have plugins of CNI 1.1 free what no pod holds; only where no other program uses their networks",
    )
    pod_cidr: CommaList = _setting((), "address ranges for pods, where kubelet does not give them")

    container_log_format: Literal["cri", "json-file"] = _setting(
        "cri", "cri: files that kubelet and log shippers read; json-file: the engine's own files and links to them"
    )
    log_driver_name: DriverName = _setting(
        "",
        "the name under which Docker knows this service's log driver; empty: cri-dockerd-py, and with another root_dir "
        "than the default cri-dockerd-py- and a short hash of it",
    )

    streaming_bind_addr: BindAddress = _setting(
        "127.0.0.1:0", "host:port for exec, attach and port-forward; empty: all addresses, any port"
    )
    streaming_tls_cert_file: OptionalPath = _setting("", "the certificate for streaming; empty: plain text")
    streaming_tls_key_file: OptionalPath = _setting("", "the key of the certificate for streaming")
    metrics_bind_addr: MetricsAddress = _setting(
        "", "host:port for Prometheus metrics, :port for all addresses; empty: none"
    )
    tracing_endpoint: TracingEndpoint = _setting(
        "",
        "where an OTLP collector takes traces over gRPC: host:port or http://host:port, https:// with TLS; empty: no "
        "traces. Needs the extra otel, which the packages have",
    )
    tracing_sampling_rate_per_million: PerMillion = _setting(
        0, "of a million calls that come without a trace, how many begin one; a caller's own decision is followed"
    )

    log_level: LogLevel = _setting("info", "error, warning, info or debug")
    log_format: Literal["logfmt", "json"] = _setting("logfmt", "logfmt or json lines on standard error")

    network_plugin: NetworkPlugin = _setting("cni", "only cni")
    network_plugin_mtu: NotNegative = _setting(0, "without effect")
    hairpin_mode: Literal["none", "hairpin-veth", "promiscuous-bridge"] = _setting("none", "without effect")
    ipv6_dual_stack: bool = _setting(False, "without effect")
    runtime_cgroups: str = _setting("", "without effect")

    def __post_init__(self) -> None:
        """Refuse values that do not belong together."""
        if bool(self.streaming_tls_cert_file) != bool(self.streaming_tls_key_file):
            raise ValueError("streaming_tls_cert_file and streaming_tls_key_file are set together or not at all")
        if self.root_dir == self.state_dir:
            raise ValueError("root_dir and state_dir must differ: the second is emptied at boot")

    @property
    def engine_call_timeout_seconds(self) -> float:
        """The limit of a short call to the engine."""
        return self.runtime_request_timeout or 119.0

    @property
    def admin_socket(self) -> Path:
        """Where the admin socket is."""
        return Path(self.admin_endpoint.removeprefix("unix://") or self.state_dir / "admin" / "admin.sock")

    @property
    def private_sockets_dir(self) -> Path:
        """Where the service listens for nobody but itself."""
        return self.state_dir / "sockets"

    def plain(self) -> dict[str, object]:
        """Return all settings as what JSON can hold."""
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {name: _plain(value) for name, value in values.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value) if isinstance(value, Path) else value
