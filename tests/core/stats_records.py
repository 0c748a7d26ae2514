"""Records for tests of stats."""

from __future__ import annotations

import secrets

from cri_dockerd_py.model.container import (
    ContainerMetadata,
    ContainerRecord,
    ContainerSpec,
    ContainerState,
    ImageSpec,
)
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.model.security import NamespaceMode, NamespaceOptions, SandboxSecurity


def container(
    sandbox_id: str = "sandbox",
    *,
    id: str = "",
    pid: int = 0,
    state: ContainerState = ContainerState.RUNNING,
    layer: str = "",
    resources: Resources | None = None,
) -> ContainerRecord:
    """A container of the pod `web` in the namespace `shop`."""
    return ContainerRecord(
        id=id or secrets.token_hex(32),
        sandbox_id=sandbox_id,
        spec=ContainerSpec(
            metadata=ContainerMetadata("app", 2),
            image=ImageSpec("example.test/app:1"),
            labels={"tier": "front"},
            annotations={"note": "kept"},
        ),
        state=state,
        created_at_ns=1_000_000_000,
        started_at_ns=2_500_000_000,
        engine="docker",
        image_id="sha256:1",
        image_ref="example.test/app@sha256:2",
        image_name="example.test/app:1",
        pid=pid,
        resources=resources or Resources(),
        writable_layer_path=layer,
    )


def sandbox(
    *,
    id: str = "",
    pid: int = 0,
    state: SandboxState = SandboxState.READY,
    cgroup_parent: str = "",
    host_network: bool = False,
) -> SandboxRecord:
    """The sandbox of the pod `web` in the namespace `shop`."""
    mode = NamespaceMode.NODE if host_network else NamespaceMode.POD
    return SandboxRecord(
        id=id or secrets.token_hex(32),
        spec=SandboxSpec(
            metadata=PodMetadata("web", "uid-1", "shop", 1),
            labels={"app": "web"},
            annotations={"pod-note": "kept"},
            cgroup_parent=cgroup_parent,
            security=SandboxSecurity(namespaces=NamespaceOptions(network=mode)),
        ),
        state=state,
        created_at_ns=1_000_000_000,
        engine="docker",
        pid=pid,
    )
