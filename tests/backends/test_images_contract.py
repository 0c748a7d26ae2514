"""Images on a real engine: pull, names, removal, users, mounts of images."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.errors import CriError, InvalidArgument, NotFound, Unimplemented, Unknown
from cri_dockerd_py.model.container import ImageSpec, Mount
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.security import ContainerSecurity, GroupsPolicy
from cri_dockerd_py.pause.archive import digest
from tests import images
from tests.backends.conftest import OWN_PID, Backend, opened
from tests.behaviour.registries import push
from tests.engines import DockerEngine, RealEngine, RegistryServer, wait_until

NOWHERE = "127.0.0.1:1/x/y:1"


@pytest.fixture
def unique(engine: RealEngine, registry: RegistryServer, tmp_path: Path) -> Iterator[str]:
    """An image in the registry that the engine does not have; its full reference."""
    image = images.build("unique", {"Labels": {"unique": str(tmp_path)}})
    reference = push(registry.address, tmp_path.name.lower().strip("_"), "1", image)
    yield reference
    for name in (reference, image.config_digest, digest(image.manifest())):
        engine.untag(name)


async def _names(engine: Engine, image_id: str) -> list[ImageRecord]:
    return [record for record in await engine.images.list() if record.id == image_id]


@pytest.mark.behaviour("IMG-08", "IMG-10")
async def test_a_digest_in_every_repository_is_listed(
    backend: Backend, unique: str, registry: RegistryServer, tmp_path: Path
) -> None:
    image = images.build("unique", {"Labels": {"unique": str(tmp_path)}})
    other = push(registry.address, f"{tmp_path.name.lower().strip('_')}-other", "1", image)
    store = backend.engine.images
    try:
        image_id = await store.pull(unique, None)
        assert await store.pull(other, None) == image_id
        (listed,) = await _names(backend.engine, image_id)
        repositories = {name.rpartition(":")[0] for name in (unique, other)}
        assert {name.partition("@")[0] for name in listed.repo_digests} == repositories
        inspected = await store.inspect(image_id)
        assert inspected is not None
        assert sorted(inspected.repo_digests) == sorted(listed.repo_digests)
    finally:
        await asyncio.to_thread(backend.real.untag, other)


@pytest.mark.behaviour("IMG-04", "IMG-08", "IMG-30", "IMG-31", "IMG-51")
async def test_pull_by_tag(backend: Backend, unique: str) -> None:
    store = backend.engine.images
    assert await store.inspect(unique) is None
    image_id = await store.pull(unique, None)
    by_tag, by_id = await store.inspect(unique), await store.inspect(image_id)
    assert by_tag is not None
    assert by_tag == by_id
    assert (by_tag.id, by_tag.repo_tags) == (image_id, (unique,))
    repository = unique.rpartition(":")[0]
    (by_digest,) = by_tag.repo_digests
    assert by_digest.startswith(f"{repository}@sha256:")
    assert await store.inspect(by_digest) == by_tag
    assert await _names(backend.engine, image_id) == [by_tag]
    assert await store.pull(unique, None) == image_id
    for _ in range(2):
        await store.remove(image_id)
    assert await store.inspect(image_id) is None
    assert await _names(backend.engine, image_id) == []


@pytest.mark.behaviour("IMG-05")
async def test_pull_by_digest(backend: Backend, unique: str) -> None:
    store = backend.engine.images
    image_id = await store.pull(unique, None)
    record = await store.inspect(image_id)
    assert record is not None
    (by_digest,) = record.repo_digests
    await store.remove(image_id)
    assert await store.pull(by_digest, None) == image_id
    record = await store.inspect(image_id)
    assert record is not None
    assert (record.repo_tags, record.repo_digests) == ((), (by_digest,))
    await store.remove(image_id)
    assert await store.inspect(by_digest) is None


@pytest.mark.behaviour("IMG-35")
async def test_pulls_are_merged_and_cancelled_apart(backend: Backend, unique: str) -> None:
    store = backend.engine.images
    jobs = [asyncio.ensure_future(store.pull(unique, None)) for _ in range(3)]
    await asyncio.sleep(0)
    jobs[0].cancel()
    ids = await asyncio.gather(*jobs[1:])
    assert ids[0] == ids[1]
    assert jobs[0].cancelled()
    await store.remove(ids[0])


@pytest.mark.behaviour("IMG-41")
async def test_pulls_that_fail(backend: Backend, registry: RegistryServer) -> None:
    store = backend.engine.images
    with pytest.raises(Unknown, match=r"^RegistryUnavailable: .*connection refused"):
        await store.pull(NOWHERE, None)
    with pytest.raises(CriError, match=r"not found|unknown"):
        await store.pull(f"{registry.address}/no/such:1", None)


@pytest.mark.behaviour("IMG-33", "IMG-34")
async def test_a_registry_that_hangs(engine: RealEngine, tmp_path: Path) -> None:
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    reference = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/x/y:1"
    async with opened(engine, tmp_path, pull_stall_s=1.0) as backend:
        with pytest.raises(Unknown, match=r"^RegistryUnavailable: .*no progress for 1 s"):
            await backend.engine.images.pull(reference, None)
        connected.clear()
        job = asyncio.ensure_future(backend.engine.images.pull(reference, None))
        await connected.wait()
        job.cancel()
        await asyncio.wait((job,), timeout=5)
        assert job.cancelled()
    server.close()


@pytest.mark.behaviour("IMG-07", "IMG-50", "IMG-52")
async def test_all_names_go_at_once(backend: Backend, unique: str) -> None:
    store = backend.engine.images
    image_id = await store.pull(unique, None)
    backend.real.tag(unique, "cri-test/second:1")
    backend.real.tag(unique, "127.0.0.1:5/third:2")
    (record,) = await _names(backend.engine, image_id)
    assert set(record.repo_tags) == {unique, "docker.io/cri-test/second:1", "127.0.0.1:5/third:2"}

    async def remove() -> None:
        await store.remove(image_id)
        assert await store.inspect(image_id) is None

    await asyncio.gather(*(remove() for _ in range(5)))
    assert await _names(backend.engine, image_id) == []


@pytest.mark.behaviour("IMG-53", "IMG-51", "LCT-07")
@pytest.mark.parametrize("running", [True, False])
async def test_image_in_use_is_hidden_and_goes_with_its_last_container(
    backend: Backend, unique: str, running: bool
) -> None:
    store = backend.engine.images
    image_id = await store.pull(unique, None)
    image = await store.inspect(image_id)
    assert image is not None
    sandbox = await backend.run()
    container_id = await backend.create(sandbox, "sleep", "1000", record=image)
    if running:
        await backend.engine.containers.start(container_id)
    await store.remove(image_id)
    assert await store.inspect(image_id) is None
    assert await store.inspect(unique) is None
    assert await _names(backend.engine, image_id) == []
    assert (await backend.look(container_id)).image_id == image_id
    if not running:
        await backend.engine.containers.start(container_id)
    assert await backend.sh(container_id, "cat /data/seed") == "from the image\n"
    await backend.engine.containers.remove(container_id)
    await store.list()
    wait_until(lambda: not backend.real.holds(image_id), "the image's end", 10)


@pytest.mark.behaviour("IMG-53")
async def test_hidden_image_is_shown_when_it_is_pulled_again(backend: Backend, unique: str) -> None:
    store = backend.engine.images
    image_id = await store.pull(unique, None)
    image = await store.inspect(image_id)
    container_id = await backend.create(await backend.run(), "sleep", "1000", record=image)
    await backend.engine.containers.start(container_id)
    await store.remove(image_id)
    assert await store.pull(unique, None) == image_id
    (record,) = await _names(backend.engine, image_id)
    assert record.repo_tags == (unique,)


@pytest.mark.behaviour("IMG-03", "IMG-09", "IMG-10")
async def test_listed_images(backend: Backend) -> None:
    by_tag = {tag: record for record in await backend.engine.images.list() for tag in record.repo_tags}
    users = {
        name: (by_tag[f"docker.io/{name}"].uid, by_tag[f"docker.io/{name}"].username)
        for name in (images.BUSYBOX, images.USER_UID, images.USER_NAME, images.USER_UID_GROUP, images.USER_NAME_GROUP)
    }
    assert users == {
        images.BUSYBOX: (None, ""),
        images.USER_UID: (1002, ""),
        images.USER_NAME: (None, "www-data"),
        images.USER_UID_GROUP: (1003, ""),
        images.USER_NAME_GROUP: (None, "www-data"),
    }
    assert by_tag[f"docker.io/{images.STOP_SIGNAL}"].stop_signal == "SIGUSR1"
    assert by_tag[f"docker.io/{images.ENTRYPOINT}"].labels == {"made-by": "cri-test"}
    assert all(record.size_bytes > 0 for record in by_tag.values())
    assert {tag for tag, record in by_tag.items() if record.pinned} == backend.pause_names


@pytest.mark.behaviour("IMG-60")
async def test_filesystems(backend: Backend) -> None:
    image_filesystems, _ = await backend.engine.images.filesystems()
    (usage,) = image_filesystems
    assert usage.used_bytes >= 1_900_000
    assert usage.inodes_used > 0
    assert Path(usage.mountpoint).is_dir()
    assert json.dumps(dict(await backend.engine.images.verbose((await backend.image()).id)))
    with pytest.raises(NotFound):
        await backend.engine.images.verbose("sha256:" + "0" * 64)


# --- users


@pytest.mark.behaviour("USR-01", "USR-02", "USR-04", "USR-05", "USR-06", "USR-07")
@pytest.mark.parametrize(
    ("image", "security", "ids"),
    [
        (images.BUSYBOX, {}, "0 0 0"),
        (images.USER_UID, {}, "1002 0 0"),
        (images.USER_NAME, {}, "33 33 33"),
        (images.USER_UID_GROUP, {}, "1003 100 100"),
        (images.USER_NAME_GROUP, {}, "33 100 100"),
        (images.USER_IN_GROUP, {}, "1000 1000 1000 50000"),
        (images.BUSYBOX, {"run_as_user": 1001}, "1001 0 0"),
        (images.BUSYBOX, {"run_as_user": 1001, "run_as_group": 1002}, "1001 1002 1002"),
        (images.BUSYBOX, {"run_as_username": "nobody"}, "65534 65534 65534"),
        (images.BUSYBOX, {"run_as_user": 1000, "supplemental_groups": (1234,)}, "1000 1000 1000 1234 50000"),
        (
            images.BUSYBOX,
            {"run_as_user": 1000, "supplemental_groups": (1234,), "groups_policy": GroupsPolicy.STRICT},
            "1000 1000 1000 1234",
        ),
        (
            images.USER_IN_GROUP,
            {"run_as_user": 1000, "run_as_group": 7, "supplemental_groups": (1234,)},
            "1000 7 7 1234 50000",
        ),
        (images.USER_IN_GROUP, {"groups_policy": GroupsPolicy.STRICT}, "1000 1000 1000"),
    ],
)
async def test_ids_of_processes(backend: Backend, image: str, security: dict[str, object], ids: str) -> None:
    wanted = ContainerSecurity(namespaces=OWN_PID.namespaces, **security)  # type: ignore[arg-type]
    container_id = await backend.start(await backend.run(), image=image, security=wanted)
    script = "awk '/^Uid|^Gid/{print $2} /^Groups/{$1=\"\"; print}' /proc/%s/status | xargs"
    lines = [(await backend.sh(container_id, script % pid)).split() for pid in ("1", "self")]
    for uid, gid, *groups in lines:
        shown = " ".join([uid, gid, *map(str, sorted({int(group) for group in groups} | {int(gid)}))])
        assert shown == ids


@pytest.mark.behaviour("USR-01")
async def test_unknown_user_fails_at_create(backend: Backend) -> None:
    sandbox = await backend.run()
    for security in (
        ContainerSecurity(run_as_username="nobody-knows"),
        ContainerSecurity(run_as_group=5),
    ):
        with pytest.raises(InvalidArgument):
            await backend.create(sandbox, "true", security=security)


# --- images as mounts


@pytest.mark.behaviour("MNT-14", "MNT-16")
async def test_image_mounts(backend: Backend) -> None:
    sandbox = await backend.run()
    source = ImageSpec("x", image_ref=(await backend.image()).id)
    whole = Mount("/image", image=source, readonly=True)
    part = Mount("/part", image=source, readonly=True, image_sub_path="data")
    if isinstance(backend.real, DockerEngine) and not backend.real.mounts_images():
        with pytest.raises(Unimplemented, match="needs overlay2, or Docker Engine 28"):
            await backend.create(sandbox, "true", mounts=(whole,))
        return
    ids = [await backend.start(sandbox, mounts=(mount,)) for mount in (whole, part, whole)]
    assert await backend.sh(ids[0], "cat /image/data/seed; /image/bin/echo exec") == "from the image\nexec\n"
    assert await backend.sh(ids[1], "ls /part") == "seed\n"
    assert "Read-only" in await backend.sh(ids[2], "touch /image/x || true")
    if isinstance(backend.real, DockerEngine) and backend.real.options.containerd_image_store:
        with pytest.raises(Unimplemented, match="twice"):
            await backend.create(sandbox, "true", mounts=(whole, part))
    else:
        both = await backend.start(sandbox, mounts=(whole, part))
        assert await backend.sh(both, "cat /image/data/seed /part/seed") == "from the image\n" * 2
        ids.append(both)
    for path in ("missing", "../etc", "/etc"):
        bad = (Mount("/image", image=source, readonly=True, image_sub_path=path),)
        with pytest.raises(InvalidArgument, match="image_sub_path"):
            await backend.create(sandbox, "true", mounts=bad)
    await asyncio.gather(*(backend.engine.containers.remove(container_id) for container_id in ids))
    await backend.engine.sandboxes.remove(sandbox.id)
    assert sandbox.id not in Path("/proc/self/mountinfo").read_text()
