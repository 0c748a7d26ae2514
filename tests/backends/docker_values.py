"""Values that the tests of the Docker backend share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cri_dockerd_py.backends.docker.container_config import Prepared
from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, ImageSpec
from cri_dockerd_py.model.node import CgroupDriver
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.model.security import ContainerSecurity, NamespaceMode, NamespaceOptions

SANDBOX_ID = "5a" * 32
CONTAINER_ID = "c0" * 32
IMAGE_ID = "sha256:" + "1d" * 32
POD = PodMetadata("web-0", "u1", "prod", 0)
OWN_PID = NamespaceOptions(pid=NamespaceMode.CONTAINER)

FACTS = DaemonFacts(
    api=(1, 51),
    version="28.5.2",
    root_dir="/var/lib/docker",
    cgroup_driver=CgroupDriver.SYSTEMD,
    cgroup_version=2,
    runtimes={"runc": True, "crun": False, "io.containerd.runc.v2": True},
    default_runtime="runc",
    security_options=frozenset({"name=seccomp,profile=builtin"}),
    cdi=True,
    containerd_store=False,
)


def facts(**changes: Any) -> DaemonFacts:
    """Return the facts of a daemon that differs from the usual one."""
    return replace(FACTS, **changes)


def sandbox_record(**changes: Any) -> SandboxRecord:
    """Return a READY sandbox."""
    spec = replace(SandboxSpec(POD, cgroup_parent="/kubepods.slice/kubepods-podu1.slice"), **changes)
    return SandboxRecord(SANDBOX_ID, spec, SandboxState.READY, 1, "docker", pid=42)


def container_spec(**changes: Any) -> ContainerSpec:
    """Return a container of its own PID namespace."""
    spec = ContainerSpec(ContainerMetadata("app"), ImageSpec(IMAGE_ID), security=ContainerSecurity(namespaces=OWN_PID))
    return replace(spec, **changes)


def prepared(**changes: Any) -> Prepared:
    """Return what preparation finds for a container without mounts and devices."""
    values: dict[str, Any] = {
        "image": IMAGE_ID,
        "user": "0:0",
        "group_add": (),
        "mounts": (),
        "log_config": {"Type": "json-file", "Config": {}},
    }
    return Prepared(**(values | changes))
