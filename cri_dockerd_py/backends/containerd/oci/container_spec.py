"""The OCI spec of a container."""

from __future__ import annotations

from typing import Any

from cri_dockerd_py.backends.containerd.oci.annotations import container_annotations
from cri_dockerd_py.backends.containerd.oci.apparmor import apparmor_profile
from cri_dockerd_py.backends.containerd.oci.capabilities import DEFAULT, capability_sets
from cri_dockerd_py.backends.containerd.oci.cdi import apply_edits
from cri_dockerd_py.backends.containerd.oci.cgroups import cgroups_path
from cri_dockerd_py.backends.containerd.oci.devices import device_entry, device_nodes, device_rules
from cri_dockerd_py.backends.containerd.oci.inputs import ContainerInputs
from cri_dockerd_py.backends.containerd.oci.mounts import ContainerMounts
from cri_dockerd_py.backends.containerd.oci.namespaces import container_namespaces, id_mapping_fields, same_users
from cri_dockerd_py.backends.containerd.oci.process import arguments, environment, working_directory
from cri_dockerd_py.backends.containerd.oci.resources import linux_resources, oom_score_adj
from cri_dockerd_py.backends.containerd.oci.seccomp import seccomp_filter
from cri_dockerd_py.backends.containerd.oci.template import Spec, template, user_fields


def container_spec(inputs: ContainerInputs) -> dict[str, object]:
    """Return the spec; InvalidArgument or Unimplemented for what cannot be."""
    security = inputs.spec.security
    same_users(security.namespaces.userns, inputs.sandbox.security.namespaces.userns)
    spec = template(inputs.handler, inputs.facts.capabilities)
    mounts = _mounts(inputs, spec)
    spec["root"] |= {"path": inputs.rootfs, "readonly": security.readonly_rootfs}
    spec["process"] |= _process(inputs, spec)
    spec["mounts"] = mounts.entries()
    spec["annotations"] = container_annotations(
        inputs.sandbox_id,
        inputs.sandbox,
        inputs.spec,
        pod_patterns=inputs.handler.pod_annotations,
        container_patterns=inputs.handler.container_annotations,
    )
    spec["linux"] |= _linux(inputs, spec)
    if propagation := mounts.rootfs_propagation():
        spec["linux"]["rootfsPropagation"] = propagation
    apply_edits(spec, inputs.cdi)
    return spec


def _mounts(inputs: ContainerInputs, spec: Spec) -> ContainerMounts:
    return ContainerMounts(
        requested=inputs.mounts,
        files=inputs.files,
        volumes=inputs.volumes,
        table=inputs.mount_table,
        handler=inputs.handler,
        facts=inputs.facts,
        privileged=inputs.spec.security.privileged,
        readonly_rootfs=inputs.spec.security.readonly_rootfs,
        userns=inputs.spec.security.namespaces.userns,
        base=spec["mounts"],
    )


def _process(inputs: ContainerInputs, spec: Spec) -> dict[str, Any]:
    request, security = inputs.spec, inputs.spec.security
    base = (spec["process"].get("capabilities") or {}).get("bounding", DEFAULT)
    process: dict[str, Any] = {
        "args": arguments(request, inputs.image),
        "env": environment(request, inputs.image, inputs.hostname or inputs.facts.hostname, inputs.cdi.env),
        "cwd": working_directory(request.working_dir, inputs.image),
        "terminal": request.tty,
        "user": user_fields(inputs.user),
        "noNewPrivileges": security.no_new_privs,
        "capabilities": capability_sets(
            security.capabilities, inputs.facts.capabilities, privileged=security.privileged, default=base
        ),
        "oomScoreAdj": oom_score_adj(request.resources.oom_score_adj, inputs.facts),
    }
    if inputs.labels.process:
        process["selinuxLabel"] = inputs.labels.process
    profile = apparmor_profile(
        security.apparmor, inputs.facts, inputs.profiles.apparmor_loaded, privileged=security.privileged
    )
    if profile:
        process["apparmorProfile"] = profile
    return process


def _linux(inputs: ContainerInputs, spec: Spec) -> dict[str, Any]:
    security, handler = inputs.spec.security, inputs.handler
    privileged = security.privileged
    nodes = device_nodes(inputs.devices, inputs.host_devices, handler, privileged=privileged)
    linux: dict[str, Any] = {
        "namespaces": container_namespaces(
            security.namespaces,
            inputs.sandbox_pid,
            inputs.target_pid,
            privileged=privileged,
            cgroup_version=inputs.facts.cgroup_version,
        ),
        **id_mapping_fields(security.namespaces.userns),
        "cgroupsPath": cgroups_path(
            inputs.sandbox.cgroup_parent, inputs.id, systemd=handler.systemd_cgroup, namespace=inputs.namespace
        ),
        "devices": [device_entry(node) for node in nodes],
        "resources": {
            **linux_resources(inputs.spec.resources, inputs.facts),
            "devices": device_rules(inputs.devices, handler, privileged=privileged),
        },
        # Exactly the request's: no list means that nothing is masked (CAP-07)
        "maskedPaths": [] if privileged else list(security.masked_paths),
        "readonlyPaths": [] if privileged else list(security.readonly_paths),
    }
    bounding = spec["process"]["capabilities"]["bounding"]
    filter_ = seccomp_filter(security.seccomp, inputs.facts, bounding, inputs.profiles.seccomp, privileged=privileged)
    if filter_ is not None:
        linux["seccomp"] = filter_
    if inputs.labels.mount:
        linux["mountLabel"] = inputs.labels.mount
    return linux
