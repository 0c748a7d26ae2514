"""Labels and annotations on Docker objects, in the form that dockershim and cri-dockerd share."""

from __future__ import annotations

from collections.abc import Mapping

TYPE = "io.kubernetes.docker.type"
SANDBOX_ID = "io.kubernetes.sandbox.id"
LOG_PATH = "io.kubernetes.container.logpath"
CONTAINER_NAME = "io.kubernetes.container.name"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
SANDBOX_TYPE = "podsandbox"
CONTAINER_TYPE = "container"
_ANNOTATION = "annotation."
_HIDDEN = frozenset({TYPE, SANDBOX_ID, LOG_PATH})


def sandbox_labels(labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the Docker labels of a sandbox; our own keys win."""
    return {**_merged(labels, annotations), TYPE: SANDBOX_TYPE, CONTAINER_NAME: "POD"}


def container_labels(
    labels: Mapping[str, str], annotations: Mapping[str, str], *, sandbox_id: str, log_path: str
) -> dict[str, str]:
    """Return the Docker labels of a container; our own keys win."""
    return {**_merged(labels, annotations), TYPE: CONTAINER_TYPE, SANDBOX_ID: sandbox_id, LOG_PATH: log_path}


def split_labels(docker_labels: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return (labels, annotations) as CRI shows them."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    is_sandbox = docker_labels.get(TYPE) == SANDBOX_TYPE
    for key, value in docker_labels.items():
        if key in _HIDDEN or (is_sandbox and key == CONTAINER_NAME):
            continue
        if key.startswith(_ANNOTATION):
            annotations[key.removeprefix(_ANNOTATION)] = value
        else:
            labels[key] = value
    return labels, annotations


def _merged(labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, str]:
    return {**labels, **{_ANNOTATION + key: value for key, value in annotations.items()}}
