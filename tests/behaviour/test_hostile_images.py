"""Images that are made to harm the node: what they say of themselves, where their layers lead, what they unpack to."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.pause.archive import BuiltImage, LayerFile, build_image, digest
from tests import images
from tests.behaviour.client import CLIENT_MESSAGE_LIMIT_BYTES, Cri, Pod, eventually, refused
from tests.behaviour.conftest import OWN_SERVICE
from tests.behaviour.registries import push
from tests.cri_server import CriServer
from tests.engines import RegistryServer

_BOMB_BYTES = 128 << 20
_MEMORY_BYTES = 48 << 20
_ZSTD_BLOCK_BYTES = 128 << 10
_SECRET = "of-the-host"

Pull = Callable[[BuiltImage], str]


class CompressedImage(BuiltImage):
    """An image whose layer is compressed, or pretends to be."""

    kind = "gzip"

    def manifest(self) -> bytes:
        """Return the manifest with the layer's type."""
        document = json.loads(super().manifest())
        if self.kind == "zstd":
            document["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
            document["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
            document["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
        else:
            document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        return json.dumps(document).encode()


class ZstdImage(CompressedImage):
    """The same by zstd, for which there are only OCI's types."""

    kind = "zstd"


@pytest.fixture
def pull(cri: Cri, registry: RegistryServer) -> Iterator[Pull]:
    """A function that pushes an image and pulls it onto the node, where it is removed after the test."""
    pulled: list[str] = []

    def run(image: BuiltImage) -> str:
        reference = push(registry.address, f"hostile/{secrets.token_hex(6)}", "1", image)
        pulled.append(reference)
        return str(cri("PullImage", image=pb.ImageSpec(image=reference)).image_ref)

    yield run
    for reference in pulled:
        with contextlib.suppress(grpc.RpcError):
            cri("RemoveImage", image=pb.ImageSpec(image=reference))


def saying(**config: object) -> BuiltImage:
    """Return an image that works, apart from what its configuration says."""
    return images.build(images.BUSYBOX, {"Labels": {"unique": secrets.token_hex(8)}, **config})


def of_layer(layer: bytes, content: bytes, kind: type[BuiltImage] = BuiltImage) -> BuiltImage:
    """Return an image with this layer, of which its configuration promises `content`."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/x"], "Labels": {"unique": secrets.token_hex(8)}},
        "rootfs": {"type": "layers", "diff_ids": [digest(content)]},
    }
    return kind(json.dumps(config).encode(), layer)


# What images say about themselves


@OWN_SERVICE
@pytest.mark.behaviour("IMG-09", "USR-01")
@pytest.mark.parametrize("user", ["4294967295", "9" * 30, "9" * 5000, "0:" + "9" * 30])
def test_no_user_breaks_lists_and_none_becomes_another(cri: Cri, pod: Pod, pull: Pull, user: str) -> None:
    image_id = pull(saying(User=user))
    assert image_id in {image.id for image in cri("ListImages").images}
    assert cri.image(image_id) is not None
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        pod.create(image=image_id)


@OWN_SERVICE
def test_names_without_end_leave_the_list_small_enough_for_kubelet(cri: Cri, pull: Pull) -> None:
    name = "x" * (CLIENT_MESSAGE_LIMIT_BYTES // 5)
    pulled = {pull(saying(User=name)) for _ in range(6)}
    listed = {image.id: image for image in cri("ListImages").images}
    assert all(0 < len(listed[image_id].username) < 1000 for image_id in pulled)


@OWN_SERVICE
@pytest.mark.parametrize("signal", ["9" * 5000, "SIGRTMIN+" + "9" * 5000, "-1"])
def test_no_stop_signal_breaks_lists(cri: Cri, pod: Pod, pull: Pull, signal: str) -> None:
    image_id = pull(saying(StopSignal=signal, Cmd=["sleep", "1000"]))
    with contextlib.suppress(grpc.RpcError):
        container = pod.create(image=image_id)
        assert container.listed().id == container.id
        container.remove()
    assert image_id in {image.id for image in cri("ListImages").images}
    assert all(item.id for item in cri.containers())


@OWN_SERVICE
def test_an_endless_passwd_is_refused_and_holds_up_nobody(cri: Cri, pod: Pod, pull: Pull) -> None:
    files = {**images.busybox_files(), "etc/passwd": LayerFile(b"u:x:1:1\n" * (1 << 18), 0o644)}
    image_id = pull(build_image(files, {"User": "nobody-there", "Labels": {"unique": secrets.token_hex(8)}}))
    creating = cri.begin(
        "CreateContainer", pod_sandbox_id=pod.id, config=cri.container_config(image=image_id), sandbox_config=pod.config
    )
    cri("Version", deadline=5.0)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        creating.result()


# Where layers lead


@pytest.mark.parametrize("link", ["etc", "etc/passwd"])
def test_user_files_that_are_links_to_the_hosts(pod: Pod, pull: Pull, host_directory: Path, link: str) -> None:
    (host_directory / "passwd").write_text(f"{_SECRET}:x:0:0::/:/bin/sh\n")
    files = {path: file for path, file in images.busybox_files().items() if not path.startswith("etc")}
    target = host_directory if link == "etc" else host_directory / "passwd"
    if link != "etc":
        files["etc/"] = LayerFile()
    files[link] = LayerFile(link_target=str(target))
    image_id = pull(build_image(files, {"Cmd": ["/bin/sh"], "User": _SECRET}))
    with refused():
        pod.create(image=image_id)


def test_a_volume_that_is_a_link_to_the_host(pod: Pod, pull: Pull, host_directory: Path) -> None:
    (host_directory / "file").write_text(_SECRET)
    files = {**images.busybox_files(), "leak": LayerFile(link_target=str(host_directory))}
    image_id = pull(build_image(files, {"Cmd": ["/bin/sh"], "Volumes": {"/leak": {}, "/up/../../leak": {}}}))
    with contextlib.suppress(grpc.RpcError):
        container = pod.run("sh", "-c", "cat /leak/file /up/../leak/file; echo written >/leak/new", image=image_id)
        assert _SECRET not in container.output()
    assert [path.name for path in host_directory.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["absolute path", "hard link"])
def test_a_layer_cannot_write_outside(pod: Pod, pull: Pull, host_directory: Path, kind: str) -> None:
    (host_directory / "file").write_text(_SECRET)
    hostile: Mapping[str, list[tarfile.TarInfo]] = {
        "absolute path": [_entry(f"{host_directory}/evil")],
        "hard link": [_entry("leak", tarfile.LNKTYPE, f"{'../' * 40}{host_directory}/file"), _entry("leak")],
    }
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for entry in hostile[kind]:
            archive.addfile(entry, io.BytesIO(b"evil"))
    with contextlib.suppress(grpc.RpcError):
        image_id = pull(of_layer(layer.getvalue(), layer.getvalue()))
        pod.create(image=image_id)
    assert {path.name: path.read_text() for path in host_directory.iterdir()} == {"file": _SECRET}


def _entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, target, 0o755
    entry.size = len(b"evil") if kind == tarfile.REGTYPE else 0
    return entry


# What layers unpack to


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_with_another_content_than_promised_leaves_nothing(cri: Cri, pull: Pull, kind: str) -> None:
    before = _used(cri)
    with refused():
        pull(_bomb(kind))
    eventually(lambda: _used(cri), lambda used: used < before + _BOMB_BYTES // 2, "the room of the bomb", 60)


@OWN_SERVICE
def test_a_bomb_is_not_unpacked_in_the_service(cri: Cri, cri_server: CriServer, pull: Pull) -> None:
    before = _peak_memory(cri_server)
    with refused():
        pull(_bomb("gzip"))
    assert _peak_memory(cri_server) < before + _MEMORY_BYTES


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (b"\x1f\x8b\x08\x00" + secrets.token_bytes(5000), CompressedImage),
        (zlib.compress(bytes(5000), wbits=31)[:-9], CompressedImage),
        (b"\x28\xb5\x2f\xfd" + secrets.token_bytes(5000), ZstdImage),
        (secrets.token_bytes(5000), BuiltImage),
        (secrets.token_bytes(5000), CompressedImage),
    ],
    ids=["gzip of noise", "cut off gzip", "zstd of noise", "no archive", "no gzip"],
)
def test_a_layer_that_is_none(
    cri: Cri, pull: Pull, layer: bytes, kind: type[BuiltImage], request: pytest.FixtureRequest, engine_name: str
) -> None:
    if "cut off" in request.node.name and engine_name.startswith(("docker-26", "docker-28")):
        pytest.skip("this Docker takes a layer whose content is whole and whose gzip trailer is not there")
    image = of_layer(layer, bytes(5000), kind)
    with refused():
        pull(image)
    assert cri.image(image.config_digest) is None


def _bomb(kind: str) -> BuiltImage:
    return of_layer(_gzip_bomb(), b"", CompressedImage) if kind == "gzip" else of_layer(_zstd_bomb(), b"", ZstdImage)


def _tar_head() -> bytes:
    entry = tarfile.TarInfo("zeros")
    entry.size = _BOMB_BYTES
    return entry.tobuf()


def _gzip_bomb() -> bytes:
    deflate = zlib.compressobj(1, wbits=31)
    pieces = [deflate.compress(_tar_head())]
    pieces += [deflate.compress(bytes(1 << 20)) for _ in range(_BOMB_BYTES >> 20)]
    return b"".join([*pieces, deflate.compress(bytes(1024)), deflate.flush()])


def _zstd_bomb() -> bytes:
    """Return a frame (RFC 8878) of the archive's head as it is, and of blocks that each are one zero repeated."""
    head = _tar_head()
    raw, repeated, last = 0 << 1, 1 << 1, 1
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 7 << 3) + _block(raw, len(head)) + head
    frame += (_block(repeated, _ZSTD_BLOCK_BYTES) + b"\0") * (_BOMB_BYTES // _ZSTD_BLOCK_BYTES)
    return frame + _block(repeated | last, 1024) + b"\0"


def _block(kind: int, size: int) -> bytes:
    return struct.pack("<I", kind | size << 3)[:3]


def _used(cri: Cri) -> int:
    return int(cri("ImageFsInfo").image_filesystems[0].used_bytes.value)


def _peak_memory(server: CriServer) -> int:
    lines = Path(f"/proc/{server.daemon.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
