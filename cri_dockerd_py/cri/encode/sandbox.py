"""Sandbox records to list items and statuses (SBS, LSB)."""

from __future__ import annotations

from typing import cast

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.encode.security import namespace_options
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxState


def sandbox_metadata(metadata: PodMetadata) -> pb.PodSandboxMetadata:
    """Return a pod's identity."""
    return pb.PodSandboxMetadata(
        name=metadata.name, uid=metadata.uid, namespace=metadata.namespace, attempt=metadata.attempt
    )


def sandbox_item(record: SandboxRecord) -> pb.PodSandbox:
    """Return the item of a list (LSB-01)."""
    return pb.PodSandbox(
        id=record.id,
        metadata=sandbox_metadata(record.spec.metadata),
        state=cast("pb.PodSandboxState", record.state),
        created_at=record.created_at_ns,
        labels=record.spec.labels,
        annotations=record.spec.annotations,
        runtime_handler=record.spec.runtime_handler,
    )


def sandbox_status(record: SandboxRecord) -> pb.PodSandboxStatus:
    """Return the status (SBS-02, SBS-03)."""
    return pb.PodSandboxStatus(
        id=record.id,
        metadata=sandbox_metadata(record.spec.metadata),
        state=cast("pb.PodSandboxState", record.state),
        created_at=record.created_at_ns,
        network=_network(record),
        linux=_linux(record),
        labels=record.spec.labels,
        annotations=record.spec.annotations,
        runtime_handler=record.spec.runtime_handler,
    )


def _linux(record: SandboxRecord) -> pb.LinuxPodSandboxStatus:
    options = namespace_options(record.spec.security.namespaces)
    return pb.LinuxPodSandboxStatus(namespaces=pb.Namespace(options=options))


def _network(record: SandboxRecord) -> pb.PodSandboxNetworkStatus | None:
    """Return the addresses; a READY pod with a network of its own never shows an empty one (NET-11)."""
    if record.spec.host_network:
        return pb.PodSandboxNetworkStatus()
    if not record.ips:
        return None if record.state is SandboxState.READY else pb.PodSandboxNetworkStatus()
    additional = [pb.PodIP(ip=address) for address in record.ips[1:]]
    return pb.PodSandboxNetworkStatus(ip=record.ips[0], additional_ips=additional)
