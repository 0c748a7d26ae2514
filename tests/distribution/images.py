"""Images for fake registries, made of random layers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.distribution import media_types
from cri_dockerd_py.pause.archive import canonical_json
from tests.distribution.fake_registry import FakeRegistry

REPOSITORY = "some/image"


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image that a fake registry has."""

    manifest: dict[str, Any]
    config: bytes
    layers: tuple[bytes, ...]
    layer_digests: tuple[str, ...]

    def blob_path(self, index: int = 0) -> str:
        return f"/v2/{REPOSITORY}/blobs/{self.layer_digests[index]}"

    @property
    def manifest_path(self) -> str:
        return f"/v2/{REPOSITORY}/manifests/{self.manifest['digest']}"


def config_of(diff_ids: Sequence[str], architecture: str = "amd64") -> bytes:
    return canonical_json(
        {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": list(diff_ids)}}
    )


def push(
    registry: FakeRegistry,
    *tags: str,
    layers: Sequence[bytes] | None = None,
    oci: bool = True,
    architecture: str = "amd64",
) -> Pushed:
    """Put an image into a registry, one layer of random bytes unless told otherwise."""
    contents = tuple(layers if layers is not None else [secrets.token_bytes(3000)])
    manifest_type, config_type, layer_type = (
        (media_types.OCI_MANIFEST, media_types.OCI_CONFIG, media_types.OCI_LAYER)
        if oci
        else (media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG, media_types.DOCKER_LAYER)
    )
    digests = tuple(registry.put_blob(content) for content in contents)
    config = config_of(digests, architecture)
    document = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {"mediaType": config_type, "digest": registry.put_blob(config), "size": len(config)},
        "layers": [
            {"mediaType": layer_type, "digest": digest, "size": len(content)}
            for digest, content in zip(digests, contents, strict=True)
        ],
    }
    return Pushed(registry.put_document(manifest_type, document, *tags), config, contents, digests)
