"""Docker's inspect documents as sandbox records (pure)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from cri_dockerd_py.backends.docker import labels as keys
from cri_dockerd_py.backends.docker.convert import (
    Document,
    NotOursError,
    attempt_of,
    group_ids,
    node_or,
    time_ns,
    user_ids,
)
from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.backends.docker.labels import split_labels
from cri_dockerd_py.model.names import parse_name
from cri_dockerd_py.model.sandbox import PodMetadata, PortMapping, Protocol, SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.model.security import NamespaceMode, NamespaceOptions, SandboxSecurity

_SHORT_ID_LENGTH = 12
_PODS_LOG_ROOT = "/var/log/pods"


def sandbox_record(document: Document, facts: DaemonFacts, engine: str) -> SandboxRecord:
    """Return the sandbox, as far as Docker knows it."""
    state = document["State"]
    running = bool(state.get("Running"))
    return SandboxRecord(
        id=str(document["Id"]),
        spec=_sandbox_spec(document, facts),
        state=SandboxState.READY if running else SandboxState.NOTREADY,
        created_at_ns=time_ns(document.get("Created")),
        engine=engine,
        pid=int(state.get("Pid") or 0) if running else 0,
    )


def _sandbox_spec(document: Document, facts: DaemonFacts) -> SandboxSpec:
    config, host = document["Config"], document["HostConfig"]
    labels, annotations = split_labels(config.get("Labels") or {})
    metadata = _pod_metadata(document, labels)
    hostname = str(config.get("Hostname") or "")
    namespaces = NamespaceOptions(
        network=node_or(host.get("NetworkMode"), NamespaceMode.POD),
        pid=node_or(host.get("PidMode"), NamespaceMode.CONTAINER),
        ipc=node_or(host.get("IpcMode"), NamespaceMode.POD),
    )
    # Docker fills in the node's name, or the beginning of the id, where none was given.
    own_hostname = namespaces.network is NamespaceMode.NODE or str(document["Id"])[:_SHORT_ID_LENGTH] == hostname
    uid, gid = user_ids(config.get("User"))
    return SandboxSpec(
        metadata=metadata,
        hostname="" if own_hostname else hostname,
        log_directory=posixpath.join(_PODS_LOG_ROOT, f"{metadata.namespace}_{metadata.name}_{metadata.uid}"),
        port_mappings=tuple(_port_mappings(host.get("PortBindings") or {})),
        labels=labels,
        annotations=annotations,
        cgroup_parent=str(host.get("CgroupParent") or ""),
        sysctls=dict(host.get("Sysctls") or {}),
        security=SandboxSecurity(
            namespaces=namespaces,
            run_as_user=uid,
            run_as_group=gid,
            readonly_rootfs=bool(host.get("ReadonlyRootfs")),
            supplemental_groups=group_ids(host.get("GroupAdd")),
            privileged=bool(host.get("Privileged")),
        ),
        runtime_handler=facts.handler_of(str(host.get("Runtime") or facts.default_runtime)),
    )


def _pod_metadata(document: Document, labels: Mapping[str, str]) -> PodMetadata:
    """Return the identity from the name; from the labels where an underscore has made the name ambiguous."""
    name = str(document.get("Name") or "")
    parsed = parse_name(name)
    if parsed is not None:
        return parsed.sandbox_metadata
    pod, uid, namespace = (labels.get(key, "") for key in (keys.POD_NAME, keys.POD_UID, keys.POD_NAMESPACE))
    if not (pod and uid and namespace):
        raise NotOursError(f"container {document['Id']} is labelled as a pod and has no pod's name: {name!r}")
    return PodMetadata(pod, uid, namespace, attempt_of(name))


def _port_mappings(bindings: Mapping[str, Any]) -> Iterator[PortMapping]:
    for port, targets in bindings.items():
        number, _, name = port.partition("/")
        protocol = Protocol.__members__.get(name.upper(), Protocol.TCP)
        for target in targets or ():
            host_port = str(target.get("HostPort") or "")
            if number.isdecimal() and host_port.isdecimal():
                yield PortMapping(protocol, int(number), int(host_port), str(target.get("HostIp") or ""))
