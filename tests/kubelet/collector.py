"""Collection of what is dead (LOD-08): one dead container a name is kept, and the newest sandbox of a pod."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import grpc

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb

_UID = "io.kubernetes.pod.uid"
_CALL_S = 120.0


def collect(runtime: Any, wanted: Collection[str]) -> None:
    """Remove dead containers beyond the newest a name, and dead sandboxes without containers that are not the newest.

    Of pods that are not `wanted` any more, all that is dead goes.
    """
    for victim in _dead_containers(runtime, wanted):
        try:
            runtime.ContainerStatus(pb.ContainerStatusRequest(container_id=victim), timeout=_CALL_S)
            runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=victim), timeout=_CALL_S)
        except grpc.RpcError:
            continue
    for victim in _dead_sandboxes(runtime, wanted):
        try:
            runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=victim), timeout=_CALL_S)
            runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=victim), timeout=_CALL_S)
        except grpc.RpcError:
            continue


def _dead_containers(runtime: Any, wanted: Collection[str]) -> list[str]:
    containers = runtime.ListContainers(pb.ListContainersRequest(), timeout=_CALL_S).containers
    dead = [one for one in containers if one.state == pb.CONTAINER_EXITED]
    kept: set[tuple[str, str]] = set()
    victims = []
    for container in sorted(dead, key=lambda one: -one.created_at):
        key = (container.labels.get(_UID, ""), container.metadata.name)
        if key[0] in wanted and key not in kept:
            kept.add(key)
        else:
            victims.append(container.id)
    return victims


def _dead_sandboxes(runtime: Any, wanted: Collection[str]) -> list[str]:
    sandboxes = runtime.ListPodSandbox(pb.ListPodSandboxRequest(), timeout=_CALL_S).items
    containers = runtime.ListContainers(pb.ListContainersRequest(), timeout=_CALL_S).containers
    occupied = {container.pod_sandbox_id for container in containers}
    newest: dict[str, pb.PodSandbox] = {}
    for sandbox in sorted(sandboxes, key=lambda one: one.created_at):
        newest[sandbox.metadata.uid] = sandbox
    return [
        sandbox.id
        for sandbox in sandboxes
        if sandbox.state == pb.SANDBOX_NOTREADY
        and sandbox.id not in occupied
        and not (sandbox.metadata.uid in wanted and newest[sandbox.metadata.uid].id == sandbox.id)
    ]
