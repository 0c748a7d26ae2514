"""Images made in memory: the same input gives the same bytes, hence the same image id, on every node."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

EPOCH = "1970-01-01T00:00:00Z"
DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A regular file, or a directory when `content` is None, or a link when `link_target` is set."""

    content: bytes | None = None
    mode: int = 0o755
    link_target: str = ""
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image of one layer: its config and layer, and the digests by which they are known."""

    config: bytes
    layer: bytes
    config_digest: str = field(init=False)
    layer_digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config_digest", digest(self.config))
        object.__setattr__(self, "layer_digest", digest(self.layer))

    def manifest(self) -> bytes:
        """Return the manifest that a registry serves for this image."""
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": DOCKER_MANIFEST_TYPE,
                "config": self._descriptor(DOCKER_CONFIG_TYPE, self.config, self.config_digest),
                "layers": [self._descriptor(DOCKER_LAYER_TYPE, self.layer, self.layer_digest)],
            }
        )

    def docker_archive(self, names: Sequence[str]) -> bytes:
        """Return the tar that the engine's image load takes, naming the image `names`."""
        config_path = self.config_digest.removeprefix("sha256:") + ".json"
        layer_path = self.layer_digest.removeprefix("sha256:") + ".tar"
        index = [{"Config": config_path, "RepoTags": list(names), "Layers": [layer_path]}]
        return make_tar(
            {
                config_path: LayerFile(self.config, 0o644),
                layer_path: LayerFile(self.layer, 0o644),
                "manifest.json": LayerFile(canonical_json(index), 0o644),
            }
        )

    @staticmethod
    def _descriptor(media_type: str, content: bytes, content_digest: str) -> dict[str, object]:
        return {"mediaType": media_type, "size": len(content), "digest": content_digest}


def build_image(
    files: Mapping[str, LayerFile], config: Mapping[str, object], architecture: str = "amd64"
) -> BuiltImage:
    """Build a Linux image of one layer with `files`; `config` has the keys of an image's `config` object."""
    layer = make_tar(files)
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": EPOCH, "created_by": "cri-dockerd-py"}],
    }
    return BuiltImage(canonical_json(document), layer)


def make_tar(files: Mapping[str, LayerFile]) -> bytes:
    """Return a tar of `files` in the given order, with no times and no names of users."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, file in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.uid, entry.gid = file.mode, file.uid, file.gid
            if file.link_target:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link_target
            elif file.content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(file.content)
            archive.addfile(entry, io.BytesIO(file.content or b""))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    """Return the sha256 digest of `content` as registries and engines write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def canonical_json(document: object) -> bytes:
    """Return `document` as JSON that is the same every time."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
