"""Inputs of specs, complete but for what a test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cri_dockerd_py.backends.containerd.oci.capabilities import DEFAULT
from cri_dockerd_py.backends.containerd.oci.container_spec import container_spec
from cri_dockerd_py.backends.containerd.oci.facts import HandlerOptions, HostFacts, PodFiles, RuntimeFeatures
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.backends.containerd.oci.inputs import ContainerInputs, SandboxInputs
from cri_dockerd_py.backends.containerd.oci.sandbox_spec import sandbox_spec
from cri_dockerd_py.backends.users import ResolvedUser
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, ImageSpec
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxSpec
from cri_dockerd_py.model.security import ContainerSecurity, NamespaceMode, NamespaceOptions, SandboxSecurity

POD, CONTAINER = "ab" * 32, "cd" * 32
ALL = DEFAULT | {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"}
FACTS = HostFacts(kernel=(6, 1), architecture="amd64", cgroup_version=2, capabilities=ALL, hostname="node-1")
HANDLER = HandlerOptions(features=RuntimeFeatures("runc", True, True, True))
FILES = PodFiles("/pod/hostname", "/pod/hosts", "/pod/resolv.conf", "/pod/shm")
PAUSE = ImageConfig(entrypoint=("/pause",))
IMAGE = ImageConfig(env=("PATH=/bin", "LANG=C"), entrypoint=("/entry",), cmd=("arg",), working_dir="/srv")
METADATA = PodMetadata("web", "uid-1", "default", 0)
OWN_PID = NamespaceOptions(pid=NamespaceMode.CONTAINER)

Spec = dict[str, Any]


def sandbox(security: SandboxSecurity | None = None, **fields: Any) -> SandboxSpec:
    """Return a sandbox's request."""
    return SandboxSpec(METADATA, security=security or SandboxSecurity(), **fields)


def container(security: ContainerSecurity | None = None, **fields: Any) -> ContainerSpec:
    """Return a container's request."""
    given = security or ContainerSecurity(namespaces=OWN_PID)
    return ContainerSpec(ContainerMetadata("app"), ImageSpec("sha256:1"), security=given, **fields)


def sandbox_inputs(spec: SandboxSpec | None = None, **fields: Any) -> SandboxInputs:
    """Return everything for a sandbox."""
    inputs = SandboxInputs(
        id=POD,
        spec=spec or sandbox(),
        image=PAUSE,
        user=ResolvedUser(65535, 65535),
        facts=FACTS,
        handler=HANDLER,
        files=FILES,
        netns_path="/run/netns/x",
    )
    return replace(inputs, **fields)


def container_inputs(spec: ContainerSpec | None = None, **fields: Any) -> ContainerInputs:
    """Return everything for a container; its mounts are the request's as they are."""
    given = spec or container()
    inputs = ContainerInputs(
        id=CONTAINER,
        spec=given,
        sandbox_id=POD,
        sandbox=sandbox(),
        sandbox_pid=77,
        image=IMAGE,
        user=ResolvedUser(0, 0),
        facts=FACTS,
        handler=HANDLER,
        files=FILES,
        mounts=given.mounts,
    )
    return replace(inputs, **fields)


def sandbox_document(spec: SandboxSpec | None = None, **fields: Any) -> Spec:
    """Return a sandbox's OCI spec."""
    return sandbox_spec(sandbox_inputs(spec, **fields))


def container_document(spec: ContainerSpec | None = None, **fields: Any) -> Spec:
    """Return a container's OCI spec."""
    return container_spec(container_inputs(spec, **fields))


def mounts_by_place(document: Spec) -> dict[str, Spec]:
    """Return the mounts of a spec by their destinations."""
    return {mount["destination"]: mount for mount in document["mounts"]}
