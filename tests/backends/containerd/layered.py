"""Images of several layers, in every compression and for several platforms, pushed to a registry."""

from __future__ import annotations

import gzip
import http.client
import json
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cri_dockerd_py.pause.archive import EPOCH, LayerFile, canonical_json, digest, make_tar

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_BLOCK_BYTES = 128 << 10


def gzipped(content: bytes) -> bytes:
    """Compress as quickly as can be, the same every time."""
    return gzip.compress(content, 1, mtime=0)


def zstd_framed(content: bytes) -> bytes:
    """Return a zstd frame of blocks that are not compressed."""
    blocks = [content[start : start + _BLOCK_BYTES] for start in range(0, len(content), _BLOCK_BYTES)]
    frame = [b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", len(content))]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        frame += [(last | len(block) << 3).to_bytes(3, "little"), block]
    return b"".join(frame)


def plain(content: bytes) -> bytes:
    """Leave it as it is."""
    return content


# suffix of the media type → how
COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {"": plain, "+gzip": gzipped, "+zstd": zstd_framed}


@dataclass(frozen=True, slots=True)
class LayeredImage:
    """An OCI image; `layers` are (media type, blob)."""

    config: bytes
    layers: tuple[tuple[str, bytes], ...]

    @property
    def id(self) -> str:
        """The digest of the config."""
        return digest(self.config)

    def manifest(self) -> bytes:
        """Return its manifest."""
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": described(OCI_CONFIG, self.config),
                "layers": [described(media_type, blob) for media_type, blob in self.layers],
            }
        )

    def digests(self) -> set[str]:
        """Return the digests of all that a pull fetches."""
        return {digest(self.manifest()), self.id, *(digest(blob) for _, blob in self.layers)}


def described(media_type: str, content: bytes, **more: object) -> dict[str, object]:
    """Return the descriptor of a blob."""
    return {"mediaType": media_type, "digest": digest(content), "size": len(content), **more}


def layered(
    tars: Sequence[bytes], suffixes: Sequence[str] = ("+gzip",), *, architecture: str = "amd64", user: str = ""
) -> LayeredImage:
    """Build an image of layers that are compressed by turns."""
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": {"Cmd": ["/none"], "User": user},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
    }
    chosen = [suffixes[number % len(suffixes)] for number in range(len(tars))]
    layers = [(OCI_LAYER + suffix, COMPRESSIONS[suffix](tar)) for suffix, tar in zip(chosen, tars, strict=True)]
    return LayeredImage(canonical_json(config), tuple(layers))


def random_tars(count: int, size: int) -> list[bytes]:
    """Return layers with one file each that no other image has."""
    return [make_tar({f"file-{number}": LayerFile(secrets.token_bytes(size), 0o644)}) for number in range(count)]


def index_of(images: Mapping[str, LayeredImage]) -> bytes:
    """Return an index of {architecture: image}."""
    manifests = [
        described(OCI_MANIFEST, image.manifest(), platform={"os": "linux", "architecture": architecture})
        for architecture, image in images.items()
    ]
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


class Pusher:
    """Writes to a repository; `namespace` is a containerd namespace for its images."""

    def __init__(self, address: str, repository: str, namespace: str) -> None:
        self.address = address
        self.repository = repository
        self.namespace = namespace

    def image(self, image: LayeredImage, tag: str = "") -> str:
        """Push an image, with a tag or by its digest, and return its reference."""
        for content in (image.config, *(blob for _, blob in image.layers)):
            self._blob(content)
        return self.manifest(image.manifest(), OCI_MANIFEST, tag)

    def manifest(self, content: bytes, media_type: str, tag: str = "") -> str:
        """Push a manifest or an index whose parts are there."""
        name = tag or digest(content)
        self._request("PUT", f"/v2/{self.repository}/manifests/{name}", content, media_type)
        return f"{self.address}/{self.repository}{':' if tag else '@'}{name}"

    def _blob(self, content: bytes) -> None:
        answer = self._request("POST", f"/v2/{self.repository}/blobs/uploads/", b"", "")
        target = urlsplit(answer.headers["Location"])
        query = f"{target.query}&" if target.query else ""
        path = f"{target.path}?{query}digest={digest(content)}"
        self._request("PUT", path, content, "application/octet-stream")

    def _request(self, method: str, path: str, body: bytes, content_type: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {json.dumps(text.decode())}")
        return answer
