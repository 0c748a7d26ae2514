"""Annotations of specs: what the shim, VM runtimes and node tools read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from cri_dockerd_py.model.container import ContainerSpec
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxSpec

_CRI = "io.kubernetes.cri."
CONTAINER_TYPE = f"{_CRI}container-type"
SANDBOX_ID = f"{_CRI}sandbox-id"


def sandbox_annotations(sandbox_id: str, spec: SandboxSpec, image_name: str, passed: Iterable[str]) -> dict[str, str]:
    """Return a sandbox's annotations; `passed` are patterns of pod annotations that go into the spec."""
    return {
        **matching(spec.annotations, passed),
        **_pod("sandbox", sandbox_id, spec.metadata),
        **_totals(spec.resources),
        f"{_CRI}sandbox-log-directory": spec.log_directory,
        **({f"{_CRI}podsandbox.image-name": image_name} if image_name else {}),
    }


def container_annotations(
    sandbox_id: str,
    sandbox: SandboxSpec,
    spec: ContainerSpec,
    *,
    pod_patterns: Iterable[str],
    container_patterns: Iterable[str],
) -> dict[str, str]:
    """Return a container's annotations, those of its pod and its own that match among them."""
    return {
        **matching(sandbox.annotations, pod_patterns),
        **matching(spec.annotations, container_patterns),
        **_pod("container", sandbox_id, sandbox.metadata),
        f"{_CRI}container-name": spec.metadata.name,
        f"{_CRI}image-name": spec.image.user_specified_image or spec.image.image,
    }


def matching(annotations: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """Return the annotations whose keys match a shell pattern; `*` and `?` do not match `/`."""
    wanted = [pattern.replace("[^", "[!").split("/") for pattern in patterns]
    return {
        key: value for key, value in annotations.items() if any(_matches(key.split("/"), parts) for parts in wanted)
    }


def _pod(kind: str, sandbox_id: str, metadata: PodMetadata) -> dict[str, str]:
    return {
        CONTAINER_TYPE: kind,
        SANDBOX_ID: sandbox_id,
        f"{_CRI}sandbox-name": metadata.name,
        f"{_CRI}sandbox-namespace": metadata.namespace,
        f"{_CRI}sandbox-uid": metadata.uid,
    }


def _totals(resources: Resources | None) -> dict[str, str]:
    """Return the pod's limits, from which VM runtimes size the machine."""
    if resources is None:
        return {}
    totals = {
        "cpu-period": resources.cpu_period_us,
        "cpu-quota": resources.cpu_quota_us,
        "cpu-shares": resources.cpu_shares,
        "memory": resources.memory_limit_bytes,
    }
    return {f"{_CRI}sandbox-{name}": str(value) for name, value in totals.items()}


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
