"""Labels on containerd's container records and snapshots: whose they are, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping

from cri_dockerd_py.model.container import ContainerMetadata
from cri_dockerd_py.model.sandbox import PodMetadata

#: Ours; not the CRI plugin's key, so that a plugin that is enabled beside us never sees our records.
KIND = "io.cri-dockerd-py.kind"
#: The name that is unique among what lives, in the plugin's form.
NAME = "io.cri-dockerd-py.name"
#: The directory of a container's own layer, where the snapshotter has one.
LAYER = "io.cri-dockerd-py.layer"
#: The sandbox that an image was mounted for, on its snapshot.
SANDBOX_ID = "io.cri-dockerd-py.sandbox-id"
#: The CRI plugin's, on records that it made or that were handed over to it.
PLUGIN_KIND = "io.cri-containerd.kind"
SANDBOX = "sandbox"
CONTAINER = "container"
#: Keeps a snapshot until it is removed, without a lease.
GC_ROOT = "containerd.io/gc.root"
_KINDS = frozenset({SANDBOX, CONTAINER})
_LIMIT_BYTES = 4096
_RESERVED_PREFIXES = ("containerd.io/", "io.cri-containerd", "io.cri-dockerd-py.")


def sandbox_name(pod: PodMetadata) -> str:
    """Return the name of a sandbox, in the plugin's form."""
    return f"{pod.name}_{pod.namespace}_{pod.uid}_{pod.attempt}"


def container_name(container: ContainerMetadata, pod: PodMetadata) -> str:
    """Return the name of a container, in the plugin's form."""
    return f"{container.name}_{pod.name}_{pod.namespace}_{pod.uid}_{container.attempt}"


def record_labels(
    kind: str, name: str, cri_labels: Mapping[str, str], more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the labels of a record; what containerd would refuse for its length is in the extension all the same."""
    given = {key: value for key, value in cri_labels.items() if key and not key.startswith(_RESERVED_PREFIXES)}
    labels = {**given, KIND: kind, NAME: name, **(more or {})}
    return {key: value for key, value in labels.items() if _bytes(key) + _bytes(value) <= _LIMIT_BYTES}


def snapshot_labels(name: str) -> dict[str, str]:
    """Return the labels of a snapshot that is made for the object with this name."""
    return {GC_ROOT: "1", NAME: name} if _bytes(NAME) + _bytes(name) <= _LIMIT_BYTES else {GC_ROOT: "1"}


def volume_labels(sandbox_id: str) -> dict[str, str]:
    """Return the labels of a snapshot of an image that is mounted into a pod's containers."""
    return {GC_ROOT: "1", SANDBOX_ID: sandbox_id}


def kind_of(labels: Mapping[str, str], *, plugin_is_enabled: bool) -> str:
    """Return SANDBOX or CONTAINER for a record that is ours to manage, "" for any other.

    What only the plugin's label is on is taken over, unless the plugin is there to look after it itself.
    """
    ours = labels.get(KIND, "")
    if ours in _KINDS:
        return ours
    theirs = labels.get(PLUGIN_KIND, "")
    return theirs if theirs in _KINDS and not plugin_is_enabled else ""


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
