"""The body of the call that creates a container (pure): everything that needed the host is handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.backends.docker.cdi import device_requests
from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.backends.docker.labels import container_labels
from cri_dockerd_py.backends.docker.mounts import mount_fields
from cri_dockerd_py.backends.docker.resources import cgroup_parent, limit_fields
from cri_dockerd_py.backends.docker.sandbox_config import SHM_SIZE_BYTES
from cri_dockerd_py.backends.docker.security_options import (
    NO_NEW_PRIVILEGES,
    apparmor_options,
    capability_fields,
    namespace_fields,
    path_fields,
    seccomp_options,
    selinux_options,
)
from cri_dockerd_py.backends.unified_limits import check_unified
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import ContainerSpec, Mount
from cri_dockerd_py.model.sandbox import SandboxRecord
from cri_dockerd_py.model.signals import signal_name


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was found out on the host and in the image for one container.

    `grantable` are the capabilities that Docker has itself, None when it has all.
    """

    image: str
    user: str
    group_add: tuple[str, ...]
    mounts: Sequence[Mount]
    log_config: Mapping[str, Any]
    devices: Sequence[Mapping[str, Any]] = ()
    cdi_requests: Sequence[str] = ()
    extra_envs: Sequence[tuple[str, str]] = ()
    seccomp_json: str = ""
    apparmor_loaded: frozenset[str] | None = None
    grantable: frozenset[str] | None = None
    least_oom_score_adj: int = -1000


def container_config(
    spec: ContainerSpec, sandbox: SandboxRecord, prepared: Prepared, facts: DaemonFacts, *, log_path: str
) -> dict[str, Any]:
    """Return the create body."""
    body: dict[str, Any] = {
        "Image": prepared.image,
        "Entrypoint": list(spec.command) or None,
        "Cmd": list(spec.args) or None,
        "Env": environment([*prepared.extra_envs, *spec.envs]),
        "WorkingDir": spec.working_dir,
        "User": prepared.user,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        "Tty": spec.tty,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": container_labels(spec.labels, spec.annotations, sandbox_id=sandbox.id, log_path=log_path),
        "HostConfig": _host_config(spec, sandbox, prepared, facts),
    }
    if spec.stop_signal:
        body["StopSignal"] = signal_name(spec.stop_signal)
    return body


def environment(envs: Sequence[tuple[str, str]]) -> list[str]:
    """Return `name=value` texts, the last value of each name; what JSON cannot carry is refused (CRE-11)."""
    for name, value in envs:
        if "\0" in name or "\0" in value:
            raise InvalidArgument(f"environment variable {name[:80]!r} has a NUL, which no environment can hold")
        try:
            value.encode()
            name.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(
                f"environment variable {name[:80]!r} is not UTF-8: Docker Engine cannot carry it; encode the value"
            ) from None
    return [f"{name}={value}" for name, value in dict(envs).items()]


def _host_config(spec: ContainerSpec, sandbox: SandboxRecord, prepared: Prepared, facts: DaemonFacts) -> dict[str, Any]:
    security = spec.security
    check_unified(spec.resources.unified, facts.cgroup_version)
    fields: dict[str, Any] = {
        **mount_fields(prepared.mounts, facts.api, selinux=facts.has("selinux")),
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        **namespace_fields(security.namespaces, sandbox.id),
        **limit_fields(spec.resources),
        **capability_fields(security.capabilities, prepared.grantable, facts.api),
        **path_fields(security),
        "OomScoreAdj": max(spec.resources.oom_score_adj, prepared.least_oom_score_adj),
        "CgroupParent": cgroup_parent(sandbox.spec.cgroup_parent, facts.cgroup_driver),
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.readonly_rootfs,
        "GroupAdd": list(prepared.group_add),
        "Devices": list(prepared.devices),
        "SecurityOpt": _security_options(spec, prepared, facts),
        "ShmSize": SHM_SIZE_BYTES,
        "LogConfig": dict(prepared.log_config),
    }
    if prepared.cdi_requests:
        fields["DeviceRequests"] = device_requests(prepared.cdi_requests)
    if security.privileged and facts.cgroup_version == 2:
        fields["CgroupnsMode"] = "host"
    if runtime := facts.runtime_for(sandbox.spec.runtime_handler):
        fields["Runtime"] = runtime
    return fields


def _security_options(spec: ContainerSpec, prepared: Prepared, facts: DaemonFacts) -> list[str]:
    security = spec.security
    return [
        *selinux_options(security.selinux),
        *apparmor_options(security.apparmor, facts, prepared.apparmor_loaded),
        *([NO_NEW_PRIVILEGES] if security.no_new_privs else []),
        *seccomp_options(security, facts, prepared.seccomp_json),
    ]
