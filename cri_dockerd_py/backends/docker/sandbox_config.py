"""The body of the call that creates a sandbox's container (pure)."""

from __future__ import annotations

from typing import Any

from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.backends.docker.labels import sandbox_labels
from cri_dockerd_py.backends.docker.resources import cgroup_parent
from cri_dockerd_py.backends.docker.security_options import (
    NO_NEW_PRIVILEGES,
    refuse_user_namespace,
    selinux_options,
)
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.sandbox import SandboxSpec
from cri_dockerd_py.model.security import NamespaceMode, SandboxSecurity

OOM_SCORE_ADJ = -998
CPU_SHARES = 2
SHM_SIZE_BYTES = 64 << 20


def sandbox_config(spec: SandboxSpec, image: str, facts: DaemonFacts, *, least_oom_score_adj: int) -> dict[str, Any]:
    """Return the create body; `least_oom_score_adj` is what Docker has the right to set."""
    security = spec.security
    refuse_user_namespace(security.namespaces)
    ports = _port_bindings(spec)
    body: dict[str, Any] = {
        "Image": image,
        "Hostname": "" if spec.host_network else spec.hostname,
        "Labels": sandbox_labels(spec.labels, spec.annotations),
        "ExposedPorts": {port: {} for port in ports},
        "HostConfig": {
            "NetworkMode": "host" if spec.host_network else "none",
            "IpcMode": "host" if security.namespaces.ipc is NamespaceMode.NODE else "shareable",
            "PidMode": "host" if security.namespaces.pid is NamespaceMode.NODE else "",
            "PortBindings": ports,
            "Sysctls": dict(spec.sysctls),
            "OomScoreAdj": max(OOM_SCORE_ADJ, least_oom_score_adj),
            "CpuShares": CPU_SHARES,
            "CgroupParent": cgroup_parent(spec.cgroup_parent, facts.cgroup_driver),
            "Privileged": security.privileged,
            "ReadonlyRootfs": security.readonly_rootfs,
            "GroupAdd": [str(group) for group in security.supplemental_groups],
            "SecurityOpt": [*selinux_options(security.selinux), NO_NEW_PRIVILEGES],
            "ShmSize": SHM_SIZE_BYTES,
            # The pause process prints nothing, so Docker need not keep a log for it.
            "LogConfig": {"Type": "none", "Config": {}},
            "MaskedPaths": None,
            "ReadonlyPaths": None,
        },
    }
    if user := _user(security):
        body["User"] = user
    if runtime := facts.runtime_for(spec.runtime_handler):
        body["HostConfig"]["Runtime"] = runtime
    return body


def _user(security: SandboxSecurity) -> str:
    if security.run_as_user is None:
        if security.run_as_group is not None:
            raise InvalidArgument("run_as_group is set without run_as_user in the sandbox's security context")
        return ""
    group = "" if security.run_as_group is None else f":{security.run_as_group}"
    return f"{security.run_as_user}{group}"


def _port_bindings(spec: SandboxSpec) -> dict[str, list[dict[str, str]]]:
    """Return the published ports: Docker does nothing with them on these networks, but other tools read them."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for mapping in spec.port_mappings:
        if mapping.host_port:
            port = f"{mapping.container_port}/{mapping.protocol.name.lower()}"
            entry = {"HostIp": mapping.host_ip, "HostPort": str(mapping.host_port)}
            bindings.setdefault(port, []).append(entry)
    return bindings
