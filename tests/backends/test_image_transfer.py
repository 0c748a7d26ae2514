"""Images between Docker and containerd, both real: every byte verified, every name kept, and each only once."""

from __future__ import annotations

import asyncio
import io
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.backends.containerd.engine import ContainerdEngine as Containerd
from cri_dockerd_py.backends.containerd.image_share import SharingTransfer
from cri_dockerd_py.backends.docker.engine import DockerEngine as Docker
from cri_dockerd_py.backends.docker.engine import connect
from cri_dockerd_py.backends.image_transfer import CopyTransfer, ImageBlobs, ImageSource
from cri_dockerd_py.errors import CriError, ResourceExhausted, Unimplemented
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.pause.archive import canonical_json, digest
from tests.backends.conftest import containerd_options, docker_options
from tests.backends.containerd.layered import Pusher, layered, random_tars
from tests.engines import ContainerdNode, DockerEngine, RegistryServer

_BIG_BYTES = 8 << 20
_CONTENT = "io.containerd.content.v1.content"


class ArchivesOnly(ImageSource):
    """A source of which only archives can be had, as with a storage driver that is not known."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    async def blobs(self, image: ImageRecord) -> ImageBlobs:
        raise Unimplemented("not here")

    def archive(self, image: ImageRecord) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._source.archive(image)


@dataclass
class Stores:
    """Both engines, and what the tests ask of them."""

    docker: Docker
    containerd: Containerd
    real_docker: DockerEngine
    node: ContainerdNode
    namespace: str
    noted: int = 0

    def note(self, count: int) -> None:
        self.noted += count

    async def there(self, image: ImageRecord, *, archives: bool = False) -> str:
        """Copy from Docker to containerd."""
        source = self.docker.image_source
        return await CopyTransfer(ArchivesOnly(source) if archives else source, self.containerd.image_sink).copy(
            image, self.note
        )

    async def back(self, image: ImageRecord) -> str:
        """Copy from containerd to Docker."""
        return await CopyTransfer(self.containerd.image_source, self.docker.image_sink).copy(image, self.note)

    def ctr(self, *arguments: str) -> str:
        """Run containerd's own tool in this test's namespace."""
        return self.node.ctr("--namespace", self.namespace, *arguments)

    def rootfs(self, image: ImageRecord, directory: Path) -> set[tuple[str, int]]:
        """Return (path, size) of everything in the unpacked image, as containerd mounts it."""
        target = directory / "rootfs"
        target.mkdir(exist_ok=True)
        self.ctr("images", "mount", image.repo_tags[0], str(target))
        try:
            found = {str(path.relative_to(target)): path for path in target.rglob("*")}
            return {(name, path.lstat().st_size if path.is_file() else 0) for name, path in found.items()}
        finally:
            self.ctr("images", "unmount", "--rm", str(target))


def tar_of(*members: tuple[str, bytes | None, str]) -> bytes:
    """Return a layer of (name, content or None for a directory, target of a hard link)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, target in members:
            entry = tarfile.TarInfo(name)
            entry.mtime = 1700000000.5
            if target:
                entry.type, entry.linkname = tarfile.LNKTYPE, target
            elif content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


def unusual_layers() -> list[bytes]:
    """Return layers with what tars can hold: long and odd names, links, deletions, the same layer twice."""
    first = tar_of(
        ("a", None, ""),
        ("a/gone", b"gone", ""),
        ("a/" + "long-" * 40, b"long", ""),
        ("a/übergroß €", b"name", ""),
        ("a/data", secrets.token_bytes(3 << 20), ""),
        ("a/hard", None, "a/data"),
        ("empty", b"", ""),
    )
    second = tar_of(("a", None, ""), ("a/.wh.gone", b"", ""), ("b", None, ""), ("b/x", secrets.token_bytes(700), ""))
    same = tar_of(("c", b"again", ""))
    return [first, second, same, tar_of(("d", b"between", "")), same]


def docker_archive(tars: list[bytes], name: str) -> tuple[bytes, str]:
    """Return what `docker load` takes, and the image's id."""
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/none"], "User": "1002"},
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
        }
    )
    paths = [f"{number}/layer.tar" for number in range(len(tars))]
    manifest = canonical_json([{"Config": "config.json", "RepoTags": [name], "Layers": paths}])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in [("config.json", config), ("manifest.json", manifest), *zip(paths, tars, strict=True)]:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue(), digest(config)


@pytest.fixture(scope="module")
def second_node(docker_engine: DockerEngine) -> Iterator[ContainerdNode]:
    """A containerd of about the age of the Docker Engine."""
    node = ContainerdNode("containerd-1.6" if docker_engine.name == "docker-20.10" else "containerd-2.1")
    node.start()
    yield node
    node.close()


@pytest.fixture
async def stores(docker_engine: DockerEngine, second_node: ContainerdNode, tmp_path: Path) -> AsyncIterator[Stores]:
    """Docker, and a namespace of containerd of its own for each test."""
    if docker_engine.options.containerd_image_store:
        pytest.skip("of Docker's graph drivers")
    namespace = f"t{secrets.token_hex(6)}"
    docker = connect(docker_options(docker_engine, tmp_path))
    containerd = Containerd(containerd_options(second_node, tmp_path, namespace=namespace))
    yield Stores(docker, containerd, docker_engine, second_node, namespace)
    await docker.close()
    await containerd.close()


async def image_of(engine: Engine, name: str) -> ImageRecord:
    record = await engine.images.inspect(name)
    assert record is not None, name
    return record


async def load(stores: Stores, tars: list[bytes]) -> ImageRecord:
    """Load an image into Docker, and return its record."""
    name = f"transfer/{secrets.token_hex(6)}:1"
    archive, image_id = docker_archive(tars, name)
    stores.real_docker.client.api.load_image(archive)
    record = await image_of(stores.docker.engine, f"docker.io/{name}")
    assert record.id == image_id
    return record


@pytest.mark.parametrize("archives", [False, True])
async def test_an_image_arrives_whole(stores: Stores, tmp_path: Path, archives: bool) -> None:
    image = await load(stores, unusual_layers())
    assert await stores.there(image, archives=archives) == image.id

    here = await image_of(stores.containerd.engine, image.id)
    assert (here.id, here.repo_tags, here.uid) == (image.id, image.repo_tags, 1002)
    found = stores.rootfs(image, tmp_path)
    long_name = "a/" + "long-" * 40
    assert {("a/data", 3 << 20), ("a/hard", 3 << 20), ("b/x", 700), (long_name, 4), ("a/übergroß €", 4)} <= found
    assert "a/gone" not in {name for name, _ in found}
    assert "cri-dockerd-py" not in stores.ctr("leases", "ls", "--quiet")
    assert stores.ctr("content", "active").splitlines()[1:] == []


async def test_what_is_there_is_not_copied_again(stores: Stores) -> None:
    tars = random_tars(3, 200_000)
    image = await load(stores, tars)
    await stores.there(image)
    assert stores.noted == sum(map(len, tars))

    stores.noted = 0
    await stores.there(image)
    assert stores.noted == 0
    await stores.there(await load(stores, [*tars[:2], *random_tars(1, 50_000)]))
    assert stores.noted < 100_000


async def test_a_copy_that_was_cut_off_goes_on_where_it_was(stores: Stores) -> None:
    image = await load(stores, random_tars(1, _BIG_BYTES))
    half = asyncio.Event()

    def note(count: int) -> None:
        stores.noted += count
        if stores.noted > _BIG_BYTES // 2:
            half.set()

    transfer = CopyTransfer(stores.docker.image_source, stores.containerd.image_sink)
    copying = asyncio.ensure_future(transfer.copy(image, note))
    await half.wait()
    copying.cancel()
    await asyncio.wait((copying,))
    assert copying.cancelled()
    steps: list[int] = []
    await transfer.copy(image, steps.append)
    assert steps[0] >= _BIG_BYTES // 4, "it began anew"


@pytest.fixture
def small_disk(second_node: ContainerdNode) -> Iterator[Callable[[str], Callable[[], None]]]:
    """A function that puts 4 MiB of disk under a part of containerd's data, and returns one that makes it large."""
    mounted: list[Path] = []

    def put(part: str) -> Callable[[], None]:
        path = second_node.directory / "c-root" / part
        if part == _CONTENT:  # containerd 2 makes it with its first blob, and never again
            (path / "ingest").mkdir(parents=True, exist_ok=True)
        directories = [entry.name for entry in path.iterdir() if entry.is_dir()]
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], check=True)
        mounted.append(path)
        for name in directories:
            (path / name).mkdir()
        return lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(path)], check=True) and None

    yield put
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("part", [_CONTENT, "io.containerd.snapshotter.v1.overlayfs/snapshots"])
@pytest.mark.parametrize("archives", [False, True])
async def test_a_disk_that_is_full_in_the_middle_of_a_copy(
    stores: Stores, small_disk: Callable[[str], Callable[[], None]], tmp_path: Path, part: str, archives: bool
) -> None:
    enlarge = small_disk(part)
    image = await load(stores, [tar_of(("data", secrets.token_bytes(_BIG_BYTES), ""))])
    with pytest.raises(ResourceExhausted, match=r"(?i)no space left on device"):
        await stores.there(image, archives=archives)
    assert await stores.containerd.engine.images.inspect(image.id) is None
    assert stores.ctr("images", "ls", "--quiet") == ""
    assert stores.ctr("snapshots", "ls").splitlines()[1:] == []
    assert stores.ctr("leases", "ls", "--quiet") == stores.ctr("content", "ls", "--quiet") == ""
    assert stores.ctr("content", "active").splitlines()[1:] == []

    enlarge()
    assert await stores.there(image, archives=archives) == image.id
    assert ("data", _BIG_BYTES) in stores.rootfs(image, tmp_path)
    stores.ctr("images", "rm", "--sync", *stores.ctr("images", "ls", "--quiet").split())


async def test_a_layer_that_is_not_what_it_was_is_refused(stores: Stores) -> None:
    content = secrets.token_bytes(100_000)
    image = await load(stores, [tar_of(("file", content, ""))])
    for path in (stores.real_docker.data_root / "overlay2").glob("*/diff/file"):
        if path.read_bytes() == content:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CriError, match="is not what was fetched"):
        await stores.there(image)
    assert stores.ctr("images", "ls", "--quiet") == ""


async def test_a_link_in_a_layers_directory_leads_nowhere(stores: Stores, tmp_path: Path) -> None:
    content = secrets.token_bytes(5000)
    image = await load(stores, [tar_of(("sub", None, ""), ("sub/file", content, ""))])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(content)
    for path in (stores.real_docker.data_root / "overlay2").glob("*/diff/sub/file"):
        if path.read_bytes() == content:
            shutil.rmtree(path.parent)
            path.parent.symlink_to(outside)
    with pytest.raises(Unimplemented, match="is no directory of Docker's"):
        await stores.containerd.image_sink.store(image, await stores.docker.image_source.blobs(image), stores.note)


async def test_digests_of_registries_are_kept_as_names(
    stores: Stores, registry: RegistryServer, pusher_name: str
) -> None:
    pusher = Pusher(registry.address, f"test/{pusher_name}", "")
    reference = pusher.image(layered(random_tars(2, 3000)), "1")
    await stores.docker.engine.images.pull(reference, None)
    image = await image_of(stores.docker.engine, reference)
    assert len(image.repo_digests) == 1

    await stores.there(image)
    here = await image_of(stores.containerd.engine, image.repo_digests[0])
    assert (here.id, here.repo_tags, here.repo_digests) == (image.id, image.repo_tags, image.repo_digests)


async def test_an_image_goes_back(stores: Stores, registry: RegistryServer, pusher_name: str) -> None:
    pusher = Pusher(registry.address, f"test/{pusher_name}", "")
    tars = [*unusual_layers(), *random_tars(1, 400_000)]
    reference = pusher.image(layered(tars, ("+gzip", "")), "1")
    await stores.containerd.engine.images.pull(reference, None)
    image = await image_of(stores.containerd.engine, reference)
    assert await stores.back(image) == image.id

    here = await image_of(stores.docker.engine, reference)
    assert (here.id, here.repo_tags) == (image.id, image.repo_tags)
    container = stores.real_docker.client.api.create_container(image.id)["Id"]
    chunks, stat = stores.real_docker.client.api.get_archive(container, "/a/data")
    assert stat["size"] == 3 << 20 < len(b"".join(chunks))
    stores.real_docker.client.api.remove_container(container)


async def test_zstd_layers_go_to_a_docker_that_can_unpack_them(
    stores: Stores, registry: RegistryServer, pusher_name: str
) -> None:
    pusher = Pusher(registry.address, f"test/{pusher_name}", "")
    packed = pusher.image(layered(random_tars(2, 300_000), ("+zstd",)), "1")
    other = pusher.image(layered(random_tars(1, 3000), ("+gzip",)), "2")
    await stores.containerd.engine.images.pull(packed, None)
    await stores.containerd.engine.images.pull(other, None)
    image = await image_of(stores.containerd.engine, packed)
    assert (image.zstd, (await image_of(stores.containerd.engine, other)).zstd) == (True, False)

    if (await stores.docker.engine.events.snapshot()).info.zstd_layers:
        assert await stores.back(image) == image.id
        container = stores.real_docker.client.api.create_container(image.id)["Id"]
        chunks, stat = stores.real_docker.client.api.get_archive(container, "/file-1")
        assert stat["size"] == 300_000 < len(b"".join(chunks))
        stores.real_docker.client.api.remove_container(container)
    else:
        assert stores.real_docker.name == "docker-20.10"
        with pytest.raises(CriError):
            await stores.back(image)
        assert await stores.docker.engine.images.inspect(image.id) is None


async def test_docker_s_containerd_store_is_shared_and_not_copied(
    docker_engine: DockerEngine, registry: RegistryServer, pusher_name: str, tmp_path: Path
) -> None:
    if not docker_engine.options.containerd_image_store:
        pytest.skip("of Docker on containerd's image store")
    node = ContainerdOfDocker(docker_engine)
    docker = connect(docker_options(docker_engine, tmp_path))
    containerd = Containerd(containerd_options(node, tmp_path, namespace=f"t{secrets.token_hex(6)}"))
    try:
        pusher = Pusher(registry.address, f"test/{pusher_name}", "")
        built = layered(random_tars(2, 300_000))
        reference = pusher.image(built, "1")
        await docker.engine.images.pull(reference, None)
        image = await image_of(docker.engine, reference)
        blobs = docker_engine.directory / "c-root" / "io.containerd.content.v1.content" / "blobs" / "sha256"
        before = {path.name: path.stat().st_ino for path in blobs.iterdir()}

        refused = CopyTransfer(ArchivesOnly(docker.image_source), containerd.image_sink)
        transfer = SharingTransfer(docker.image_namespace, containerd.share_from, refused)
        assert not await transfer.copies_content()
        assert await transfer.copy(image, lambda _: None) == built.id
        here = await image_of(containerd.engine, reference)
        assert (here.repo_tags, here.repo_digests) == (image.repo_tags, image.repo_digests)
        assert {path.name: path.stat().st_ino for path in blobs.iterdir()} == before

        docker_engine.client.api.remove_image(image.id, force=True)
        there = SharingTransfer(docker.image_namespace, containerd.share_to, refused)
        await there.copy(here, lambda _: None)
        assert (await image_of(docker.engine, reference)).id == image.id
        container = docker_engine.client.api.create_container(reference)["Id"]
        docker_engine.client.api.remove_container(container)
    finally:
        await docker.close()
        await containerd.close()


class ContainerdOfDocker:
    """The containerd behind a Docker Engine, as far as options need it."""

    def __init__(self, docker: DockerEngine) -> None:
        self.endpoint = f"unix://{docker.containerd.socket}"
        self.crun = docker.crun


@pytest.fixture
def pusher_name() -> str:
    """The name of a repository that no other test has."""
    return f"t{secrets.token_hex(6)}"
