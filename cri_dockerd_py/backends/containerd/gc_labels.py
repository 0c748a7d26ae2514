"""Labels on blobs: what refers to what, so that garbage collection keeps it, and where blobs came from (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.distribution.media_types import Kind, kind_of

UNCOMPRESSED = "containerd.io/uncompressed"
_CONTENT = "containerd.io/gc.ref.content"
_SNAPSHOT = "containerd.io/gc.ref.snapshot"
_SOURCE = "containerd.io/distribution.source"
_LIMIT_BYTES = 4096
# kind → what its references are numbered after; the first config has no number
_PREFIXES = {Kind.INDEX: "m.", Kind.MANIFEST: "m.", Kind.LAYER: "l.", Kind.CONFIG: "config"}


def of_children(children: Sequence[Descriptor]) -> dict[str, str]:
    """Return the labels of an index or manifest that refer to all that it names, in the order of the document."""
    labels: dict[str, str] = {}
    counts: dict[str, int] = {}
    for child in children:
        prefix = _PREFIXES.get(kind_of(child.media_type), "")
        number = counts.get(prefix, 0)
        counts[prefix] = number + 1
        suffix = "config" if prefix == "config" and not number else f"{prefix}{number}"
        labels[f"{_CONTENT}.{suffix}"] = child.digest
    return labels


def of_snapshot(snapshotter: str, chain_id: str) -> dict[str, str]:
    """Return the label of a config that refers to the unpacked image."""
    return {f"{_SNAPSHOT}.{snapshotter}": chain_id}


def of_source(domain: str, path: str, present: Mapping[str, str]) -> dict[str, str]:
    """Return the label that says from which repositories of a registry a blob came, `present` labels considered.

    Empty when there is nothing to change, or no room.
    """
    host = domain.rpartition("]")[0].removeprefix("[") or domain.partition(":")[0]
    key = f"{_SOURCE}.{host}"
    old = present.get(key, "")
    value = ",".join(sorted({*filter(None, old.split(",")), path}))
    return {} if value == old or len(key) + len(value) > _LIMIT_BYTES else {key: value}
