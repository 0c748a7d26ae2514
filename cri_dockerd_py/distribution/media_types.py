"""Media types of images, Docker's and OCI's."""

from __future__ import annotations

from enum import Enum

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_LAYERS = frozenset(
    [base + suffix for base in (OCI_LAYER, OCI_LAYER_FOREIGN) for suffix in ("", "+gzip", "+zstd")]
    + [base + suffix for base in (DOCKER_LAYER, DOCKER_LAYER_FOREIGN) for suffix in ("", ".gzip", ".zstd")]
)
#: What is asked for when a reference is resolved.
ACCEPT_MANIFESTS = ", ".join((DOCKER_MANIFEST, DOCKER_INDEX, OCI_MANIFEST, OCI_INDEX, "*/*"))


class Kind(Enum):
    """What a blob is to an image; the value is the word for it in names of ingests."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    UNKNOWN = "unknown"


def kind_of(media_type: str) -> Kind:
    """Return what a blob of this media type is."""
    if media_type in INDEXES:
        return Kind.INDEX
    if media_type in MANIFESTS:
        return Kind.MANIFEST
    if media_type in CONFIGS:
        return Kind.CONFIG
    return Kind.LAYER if media_type in _LAYERS else Kind.UNKNOWN


def essence(content_type: str) -> str:
    """Return the media type of a Content-Type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()
