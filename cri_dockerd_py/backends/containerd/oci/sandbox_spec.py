"""The OCI spec of a sandbox's own process, which holds the pod's namespaces."""

from __future__ import annotations

from typing import Any

from cri_dockerd_py.backends.containerd.oci.annotations import sandbox_annotations
from cri_dockerd_py.backends.containerd.oci.cgroups import cgroups_path
from cri_dockerd_py.backends.containerd.oci.devices import DENY_ALL
from cri_dockerd_py.backends.containerd.oci.inputs import SandboxInputs
from cri_dockerd_py.backends.containerd.oci.mounts import sandbox_mounts
from cri_dockerd_py.backends.containerd.oci.namespaces import id_mapping_fields, mapped, sandbox_namespaces
from cri_dockerd_py.backends.containerd.oci.process import merged_environment, working_directory
from cri_dockerd_py.backends.containerd.oci.resources import oom_score_adj
from cri_dockerd_py.backends.containerd.oci.seccomp import seccomp_filter
from cri_dockerd_py.backends.containerd.oci.template import Spec, template, user_fields
from cri_dockerd_py.errors import InvalidArgument

OOM_SCORE_ADJ = -998
CPU_SHARES = 2


def sandbox_spec(inputs: SandboxInputs) -> dict[str, object]:
    """Return the spec; InvalidArgument for what cannot be."""
    spec = template(inputs.handler, inputs.facts.capabilities)
    privileged = inputs.spec.security.privileged
    spec["root"] |= {"path": inputs.rootfs, "readonly": True}
    spec["process"] |= _process(inputs)
    spec["mounts"] = sandbox_mounts(spec["mounts"], inputs.files, privileged=privileged)
    spec["annotations"] = sandbox_annotations(inputs.id, inputs.spec, inputs.image_name, inputs.handler.pod_annotations)
    if inputs.spec.hostname and not inputs.spec.host_network:
        spec["hostname"] = inputs.spec.hostname
    spec["linux"] |= _linux(inputs, spec)
    if inputs.labels.mount:
        spec["linux"]["mountLabel"] = inputs.labels.mount
    return spec


def _process(inputs: SandboxInputs) -> dict[str, Any]:
    image = inputs.image
    line = [*image.entrypoint, *image.cmd]
    if not line:
        raise InvalidArgument(f"pause image {inputs.image_name}: it has neither an entrypoint nor a command")
    process: dict[str, Any] = {
        "args": line,
        "env": merged_environment(image.env),
        "cwd": working_directory("", image),
        "user": user_fields(inputs.user),
        "noNewPrivileges": True,
        "oomScoreAdj": oom_score_adj(OOM_SCORE_ADJ, inputs.facts),
    }
    if inputs.labels.process:
        process["selinuxLabel"] = inputs.labels.process
    return process


def _linux(inputs: SandboxInputs, spec: Spec) -> dict[str, Any]:
    security = inputs.spec.security
    linux: dict[str, Any] = {
        "namespaces": sandbox_namespaces(security.namespaces, inputs.netns_path, inputs.userns_path),
        **id_mapping_fields(security.namespaces.userns),
        "cgroupsPath": cgroups_path(
            inputs.spec.cgroup_parent,
            inputs.id,
            systemd=inputs.handler.systemd_cgroup,
            namespace=inputs.namespace,
        ),
        "resources": {"devices": [dict(DENY_ALL)], "cpu": {"shares": CPU_SHARES}},
        "sysctl": _sysctls(inputs),
    }
    bounding = (spec["process"].get("capabilities") or {}).get("bounding") or ()
    filter_ = seccomp_filter(
        security.seccomp,
        inputs.facts,
        bounding,
        inputs.profiles.seccomp,
        privileged=security.privileged,
        native_only=not inputs.image_name,
    )
    if filter_ is not None:
        linux["seccomp"] = filter_
    return linux


def _sysctls(inputs: SandboxInputs) -> dict[str, str]:
    """Return the pod's sysctls, and the defaults that let any user bind low ports and ping (RUN-15)."""
    sysctls = dict(inputs.spec.sysctls)
    if not inputs.spec.host_network:
        sysctls.setdefault("net.ipv4.ip_unprivileged_port_start", "0")
        if not mapped(inputs.spec.security.namespaces.userns) and not inputs.facts.in_user_namespace:
            sysctls.setdefault("net.ipv4.ping_group_range", "0 2147483647")
    return sysctls
