"""Images: names, status, lists, pulls, removal, file system."""

from __future__ import annotations

import base64
import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.pause.archive import BuiltImage, LayerFile, build_image, digest
from tests import images
from tests.behaviour.client import Cri, Pod, eventually, refused
from tests.behaviour.registries import Demands, PickyRegistry, by_digest, push
from tests.engines import RegistryServer


def pull(cri: Cri, reference: str, deadline: float = 90.0, **fields: object) -> str:
    """Pull an image and return its id."""
    return str(cri("PullImage", image=pb.ImageSpec(image=reference), deadline=deadline, **fields).image_ref)


def remove(cri: Cri, reference: str) -> None:
    """Remove an image."""
    cri("RemoveImage", image=pb.ImageSpec(image=reference))


def unique_layer(size: int) -> BuiltImage:
    """Return an image with a layer that no node has."""
    return build_image({"big": LayerFile(secrets.token_bytes(size), 0o644)}, {"Cmd": ["/big"]})


def listed(cri: Cri) -> dict[str, pb.Image]:
    """Return all images by id."""
    return {image.id: image for image in cri("ListImages").images}


@pytest.fixture
def repository() -> str:
    """A repository that nobody else uses."""
    return f"behaviour/{secrets.token_hex(6)}"


@pytest.fixture
def pulled(cri: Cri, registry: RegistryServer, repository: str, unique_image: BuiltImage) -> Iterator[str]:
    """A reference by tag of an image that was pulled, and that nobody else has."""
    reference = push(registry.address, repository, "one", unique_image)
    image_id = pull(cri, reference)
    yield reference
    with contextlib.suppress(grpc.RpcError):
        remove(cri, image_id)


@pytest.mark.behaviour("IMG-03", "IMG-04", "IMG-08", "IMG-22", "IMG-30", "IMG-31", "GEN-10")
def test_pulled_image_is_whole(cri: Cri, pod: Pod, pulled: str, unique_image: BuiltImage) -> None:
    image = cri.image(pulled)
    assert image is not None
    repository = pulled.rpartition(":")[0]
    assert list(image.repo_tags) == [pulled]
    assert list(image.repo_digests) == [f"{repository}@{digest(unique_image.manifest())}"]
    assert image.size > 0
    assert not image.pinned
    assert listed(cri)[image.id].repo_tags == image.repo_tags
    for name in (image.id, *image.repo_digests):
        assert cri.image(name) == image
    assert pull(cri, pulled) == image.id
    assert pod.run("echo", "ran", image=image.id).output() == "ran"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory whose path fits into an archive's links."""
    with tempfile.TemporaryDirectory(prefix="cdp-", dir="/tmp") as path:
        yield Path(path)


@pytest.mark.parametrize("way", ["link", "dots", "both"])
def test_layers_do_not_lead_out_of_the_image(
    cri: Cri, registry: RegistryServer, repository: str, short_path: Path, way: str
) -> None:
    up = "../" * 20
    files = {
        "link": {"out": LayerFile(link_target=str(short_path)), "out/evil": LayerFile(b"evil", 0o644)},
        "dots": {f"{up}{short_path}/evil": LayerFile(b"evil", 0o644)},
        "both": {"out": LayerFile(link_target=f"{up}{short_path}"), "out/evil": LayerFile(b"evil", 0o644)},
    }[way]
    reference = push(registry.address, repository, "one", build_image(files, {"Cmd": ["/none"]}))
    # An engine keeps the file inside, or refuses the layer by the name of what it has in it.
    said = "evil"
    try:
        remove(cri, pull(cri, reference))
    except grpc.RpcError as error:
        said = error.details() or ""
    assert "evil" in said or "path escapes" in said
    assert list(short_path.iterdir()) == []


@pytest.mark.behaviour("IMG-05", "IMG-04")
def test_pull_by_digest_gives_no_tag(
    cri: Cri, registry: RegistryServer, repository: str, unique_image: BuiltImage
) -> None:
    push(registry.address, repository, "one", unique_image)
    reference = by_digest(registry.address, repository, unique_image)
    image_id = pull(cri, reference)
    image = cri.image(reference)
    assert image is not None
    assert image.id == image_id
    assert list(image.repo_tags) == []
    assert list(image.repo_digests) == [reference]
    assert image_id in listed(cri)
    remove(cri, reference)
    assert cri.image(image_id) is None


@pytest.mark.behaviour("IMG-01")
def test_digest_decides_over_a_tag(
    cri: Cri, registry: RegistryServer, repository: str, unique_image: BuiltImage
) -> None:
    push(registry.address, repository, "one", unique_image)
    reference = f"{registry.address}/{repository}:other@{digest(unique_image.manifest())}"
    image_id = pull(cri, reference)
    image = cri.image(image_id)
    assert image is not None
    assert by_digest(registry.address, repository, unique_image) in image.repo_digests
    remove(cri, image_id)


@pytest.mark.behaviour("IMG-01", "IMG-02")
def test_latest_is_the_default_tag(
    cri: Cri, registry: RegistryServer, repository: str, unique_image: BuiltImage
) -> None:
    reference = push(registry.address, repository, "latest", unique_image)
    bare = reference.removesuffix(":latest")
    image_id = pull(cri, bare)
    image = cri.image(bare)
    assert image is not None
    assert list(image.repo_tags) == [reference]
    remove(cri, bare)
    assert image_id not in listed(cri)


@pytest.mark.behaviour("IMG-07", "IMG-08", "IMG-50", "IMG-51", "GEN-17")
def test_three_tags_of_one_image_are_one_image(
    cri: Cri, registry: RegistryServer, repository: str, unique_image: BuiltImage
) -> None:
    references = [push(registry.address, repository, tag, unique_image) for tag in ("one", "two", "three")]
    (image_id,) = {pull(cri, reference) for reference in references}
    image = cri.image(image_id)
    assert image is not None
    assert sorted(image.repo_tags) == sorted(references)
    assert list(listed(cri)).count(image_id) == 1
    for reference in references:
        assert cri.image(reference) == image
    remove(cri, references[1])
    for name in (*references, image_id, *image.repo_digests):
        assert cri.image(name) is None
    assert image_id not in listed(cri)


@pytest.mark.behaviour("IMG-07", "CST-05")
def test_same_content_of_two_repositories_has_one_id(
    cri: Cri, registry: RegistryServer, repository: str, unique_image: BuiltImage
) -> None:
    references = [push(registry.address, f"{repository}-{name}", "one", unique_image) for name in "ab"]
    (image_id,) = {pull(cri, reference) for reference in references}
    image = cri.image(image_id)
    assert image is not None
    assert sorted(image.repo_tags) == sorted(references)
    assert len(image.repo_digests) == 2
    remove(cri, image_id)
    assert cri.image(references[0]) is None
    assert cri.image(references[1]) is None


@pytest.mark.behaviour("IMG-32", "IMG-23")
def test_moved_tag_moves_and_the_old_image_stays(
    cri: Cri, registry: RegistryServer, repository: str, pulled: str
) -> None:
    old = cri.image(pulled)
    assert old is not None
    newer = images.build(images.BUSYBOX, {"Labels": {"unique": secrets.token_hex(8)}})
    assert push(registry.address, repository, "one", newer) == pulled
    new_id = pull(cri, pulled)
    assert new_id != old.id
    moved = cri.image(pulled)
    assert moved is not None
    assert moved.id == new_id
    stayed = cri.image(old.id)
    assert stayed is not None
    assert list(stayed.repo_tags) == []
    assert old.id in listed(cri)
    remove(cri, old.id)
    remove(cri, new_id)
    assert not {old.id, new_id} & set(listed(cri))


@pytest.mark.behaviour("IMG-06")
@pytest.mark.parametrize("name", ["not a reference!", "a/UPPER", "a/b:", "x" * 300])
@pytest.mark.differs_from_containerd("2.1 takes it for absent")
def test_unparsable_reference_is_refused(cri: Cri, name: str) -> None:
    with refused():
        cri.image(name)


@pytest.mark.behaviour("IMG-41", "GEN-16")
@pytest.mark.parametrize("name", ["not a reference!", "a/UPPER", ""])
def test_pull_of_an_unparsable_reference_is_refused(cri: Cri, name: str) -> None:
    with refused():
        pull(cri, name)


@pytest.mark.behaviour("IMG-09", "USR-03")
@pytest.mark.parametrize(
    ("image", "uid", "username"),
    [
        ("busybox", None, ""),
        ("user-uid", 1002, ""),
        ("user-name", None, "www-data"),
        ("user-uid-group", 1003, ""),
        ("user-name-group", None, "www-data"),
    ],
)
def test_user_of_the_image(cri: Cri, image: str, uid: int | None, username: str) -> None:
    found = cri.image(cri.images[image])
    assert found is not None
    assert (found.uid.value if found.HasField("uid") else None) == uid
    assert found.username == username
    again = listed(cri)[found.id]
    assert (again.uid, again.username) == (found.uid, found.username)


@pytest.mark.behaviour("IMG-10")
def test_only_an_image_of_sandboxes_is_pinned(cri: Cri, pod: Pod, pulled: str) -> None:
    """A node whose sandboxes need no image has none that is pinned."""
    pinned = [image for image in listed(cri).values() if image.pinned]
    assert len(pinned) <= 1
    assert not [tag for image in pinned for tag in image.repo_tags if "pause" not in tag]
    image = cri.image(pulled)
    assert image is not None
    assert not image.pinned


@pytest.mark.behaviour("IMG-12")
def test_verbose_status_of_an_image(cri: Cri, pulled: str) -> None:
    assert not cri("ImageStatus", image=pb.ImageSpec(image=pulled)).info
    assert cri("ImageStatus", image=pb.ImageSpec(image=pulled), verbose=True).info["info"].startswith("{")


@pytest.mark.behaviour("IMG-20")
def test_empty_filter_lists_everything(cri: Cri, pulled: str) -> None:
    everything = set(listed(cri))
    for spec in (pb.ImageSpec(), pb.ImageSpec(image="")):
        answer = cri("ListImages", filter=pb.ImageFilter(image=spec))
        assert {image.id for image in answer.images} == everything


@pytest.mark.behaviour("IMG-21", "IMG-02")
@pytest.mark.differs_from_containerd("it ignores the filter")
def test_filter_lists_one_image(cri: Cri, pulled: str) -> None:
    image = cri.image(pulled)
    assert image is not None
    for name in (pulled, image.id, *image.repo_digests):
        answer = cri("ListImages", filter=pb.ImageFilter(image=pb.ImageSpec(image=name)))
        assert [item.id for item in answer.images] == [image.id]
    answer = cri("ListImages", filter=pb.ImageFilter(image=pb.ImageSpec(image="never-pulled")))
    assert not answer.images


@pytest.mark.behaviour("IMG-31", "IMG-39", "IMG-40")
def test_pull_with_a_config_of_labels_alone(cri: Cri, pulled: str) -> None:
    assert pull(cri, pulled, sandbox_config=pb.PodSandboxConfig(labels={"a": "b"}))


@pytest.mark.behaviour("IMG-40")
@pytest.mark.differs_from_containerd("it takes the default")
def test_pull_for_an_unknown_handler_is_refused(cri: Cri, pulled: str) -> None:
    with refused():
        cri("PullImage", image=pb.ImageSpec(image=pulled, runtime_handler="no-such-handler"))


@pytest.mark.behaviour("IMG-41", "IMG-43")
def test_missing_image_is_an_error_with_a_text(cri: Cri, registry: RegistryServer) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        pull(cri, f"{registry.address}/nobody/has/this:1")
    assert "nobody/has/this" in failure.value.details()


@pytest.mark.behaviour("IMG-41")
def test_unreachable_registry_is_an_error_in_time(cri: Cri) -> None:
    with pytest.raises(grpc.RpcError):
        pull(cri, "127.0.0.1:1/nobody/listens:1", deadline=60)


@pytest.mark.behaviour("IMG-41")
@pytest.mark.differs_from_containerd("it does not use the prefix")
def test_unreachable_registry_is_named_for_kubelet(cri: Cri) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        pull(cri, "127.0.0.1:1/nobody/listens:1", deadline=60)
    assert failure.value.code() == grpc.StatusCode.UNKNOWN
    assert failure.value.details().startswith("RegistryUnavailable")


# Credentials

_LOGIN = "user:p@ss:word"


def basic(text: str) -> str:
    """Return the `auth` form of credentials."""
    return base64.b64encode(text.encode()).decode()


@pytest.mark.behaviour("IMG-36", "IMG-38", "IMG-43")
@pytest.mark.parametrize(
    ("demands", "auth"),
    [
        (Demands(), None),
        (Demands(basic=_LOGIN), pb.AuthConfig(username="user", password="p@ss:word")),
        (Demands(basic=_LOGIN), pb.AuthConfig(auth=basic(_LOGIN))),
        (Demands(basic=_LOGIN), pb.AuthConfig(auth=basic(_LOGIN + "\0\0"))),
        (
            Demands(bearer="the-token", token_basic=_LOGIN),
            pb.AuthConfig(username="user", password="p@ss:word"),
        ),
        (Demands(bearer="the-token", refresh_token="refresh-me"), pb.AuthConfig(identity_token="refresh-me")),
        pytest.param(
            Demands(bearer="given-out-before"),
            pb.AuthConfig(registry_token="given-out-before"),
            marks=pytest.mark.differs_from_containerd("it ignores registry tokens"),
        ),
    ],
    ids=["none", "user", "auth", "auth with zeros", "user for a token", "identity token", "registry token"],
)
def test_credentials_of_every_form_open_the_registry(
    cri: Cri, unique_image: BuiltImage, demands: Demands, auth: pb.AuthConfig | None
) -> None:
    with PickyRegistry(unique_image, demands) as picky:
        reference = picky.reference()
        if auth is not None:
            with pytest.raises(grpc.RpcError):
                pull(cri, reference)
        image_id = pull(cri, reference, auth=auth)
        assert cri.image(reference) is not None
        remove(cri, image_id)
        if auth is not None:
            with pytest.raises(grpc.RpcError) as failure:
                pull(cri, reference)
            assert "p@ss" not in failure.value.details()


@pytest.mark.behaviour("IMG-36", "IMG-38")
@pytest.mark.parametrize(
    "auth",
    [
        pb.AuthConfig(username="user", password="wrong"),
        pb.AuthConfig(auth=basic("user:wrong")),
        pb.AuthConfig(auth="%%%"),
        pb.AuthConfig(auth=basic("no colon")),
    ],
    ids=["wrong password", "wrong auth", "no base64", "no colon"],
)
def test_wrong_credentials_are_refused(cri: Cri, unique_image: BuiltImage, auth: pb.AuthConfig) -> None:
    with PickyRegistry(unique_image, Demands(basic=_LOGIN)) as picky:
        with pytest.raises(grpc.RpcError) as failure:
            pull(cri, picky.reference(), auth=auth)
        assert "wrong" not in failure.value.details()
        assert cri.image(picky.reference()) is None


@pytest.mark.behaviour("IMG-37")
@pytest.mark.parametrize("form", ["{address}", "http://{address}", "https://{address}/v2/"])
def test_credentials_for_this_registry_are_used(cri: Cri, unique_image: BuiltImage, form: str, node: object) -> None:
    with PickyRegistry(unique_image, Demands(basic=_LOGIN)) as picky:
        server = form.format(address=picky.address)
        if "://" not in form and getattr(node, "is_containerd", False):
            pytest.skip("containerd does not parse a bare host")
        auth = pb.AuthConfig(username="user", password="p@ss:word", server_address=server)
        remove(cri, pull(cri, picky.reference(), auth=auth))


@pytest.mark.behaviour("IMG-37")
def test_credentials_for_another_registry_are_not_sent(cri: Cri, unique_image: BuiltImage) -> None:
    with PickyRegistry(unique_image, Demands(basic=_LOGIN)) as picky:
        auth = pb.AuthConfig(username="user", password="p@ss:word", server_address="https://registry.example.com")
        with pytest.raises(grpc.RpcError):
            pull(cri, picky.reference(), auth=auth)
        assert f"Basic {basic(_LOGIN)}" not in picky.seen.authorizations


# Hanging registries, cancellation


@pytest.mark.behaviour("IMG-34", "GEN-14")
def test_cancelled_pull_stops_the_download(cri: Cri) -> None:
    with PickyRegistry(unique_layer(1_000_000), Demands(stall_at_bytes=1000, trickle=True)) as picky:
        call = cri.begin("PullImage", image=pb.ImageSpec(image=picky.reference()), deadline=None)
        assert picky.seen.stalled.wait(20)
        call.cancel()
        assert picky.seen.gone.wait(20)
        assert cri.image(picky.reference()) is None
        picky.demands.stall_at_bytes = -1
        remove(cri, pull(cri, picky.reference()))


@pytest.mark.behaviour("IMG-34")
def test_pull_with_a_millisecond_answers_deadline_exceeded(cri: Cri, pulled: str) -> None:
    started = time.monotonic()
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        pull(cri, pulled, deadline=0.001)
    assert time.monotonic() - started < 5


@pytest.mark.behaviour("IMG-33")
@pytest.mark.differs_from_containerd("2.1 does not look at its timeout in its default way of pulling")
def test_hanging_registry_is_cut_off(impatient_cri: Cri) -> None:
    with PickyRegistry(unique_layer(1_000_000), Demands(stall_at_bytes=1000)) as picky:
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as failure:
            pull(impatient_cri, picky.reference(), deadline=30)
        assert failure.value.code() != grpc.StatusCode.DEADLINE_EXCEEDED or "deadline" not in failure.value.details()
        assert 3 < time.monotonic() - started < 28


@pytest.mark.behaviour("IMG-35", "IMG-34")
def test_cancelled_pull_does_not_fail_another(cri: Cri) -> None:
    with PickyRegistry(unique_layer(5_000_000), Demands()) as picky:
        spec = pb.ImageSpec(image=picky.reference())
        calls = [cri.begin("PullImage", image=spec) for _ in range(4)]
        calls[0].cancel()
        (image_id,) = {call.result().image_ref for call in calls[1:]}
        assert cri.image(picky.reference()) is not None
        remove(cri, image_id)


# Removal


@pytest.mark.behaviour("IMG-50", "IMG-51", "IMG-65")
@pytest.mark.parametrize("form", ["id", "tag", "digest"])
def test_image_is_removed_by_any_name(cri: Cri, pulled: str, form: str) -> None:
    image = cri.image(pulled)
    assert image is not None
    remove(cri, {"id": image.id, "tag": pulled, "digest": image.repo_digests[0]}[form])
    for name in (image.id, pulled, image.repo_digests[0]):
        assert cri.image(name) is None
    assert image.id not in listed(cri)


@pytest.mark.behaviour("IMG-52", "IDM-05")
def test_concurrent_removals_all_succeed(cri: Cri, pulled: str) -> None:
    image = cri.image(pulled)
    assert image is not None
    spec = pb.ImageSpec(image=image.id)
    for call in [cri.begin("RemoveImage", image=spec) for _ in range(5)]:
        call.result()
        assert cri.image(image.id) is None


@pytest.mark.behaviour("IMG-53", "GEN-17", "CRE-04")
def test_image_in_use_is_hidden_or_its_removal_refused(cri: Cri, new_pod: Callable[..., Pod], pulled: str) -> None:
    image = cri.image(pulled)
    assert image is not None
    container = new_pod().start(image=image.id)
    try:
        remove(cri, image.id)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.INTERNAL:
            raise
        assert cri.image(pulled) == image
    else:
        assert cri.image(pulled) is None
        assert cri.image(image.id) is None
    assert container.exec("true").exit_code == 0


# The file system of images


@pytest.mark.behaviour("IMG-60", "IMG-61", "IMG-62", "GEN-07")
def test_filesystem_of_images(cri: Cri) -> None:
    answer = cri("ImageFsInfo")
    first = answer.image_filesystems[0]
    assert first.timestamp
    assert first.HasField("used_bytes")
    assert first.HasField("inodes_used")
    assert Path(first.fs_id.mountpoint).is_dir()
    for item in answer.container_filesystems:
        assert item.HasField("used_bytes")
        assert Path(item.fs_id.mountpoint).is_dir()


@pytest.mark.behaviour("IMG-60", "IMG-61")
def test_used_bytes_grow_with_an_image(cri: Cri, registry: RegistryServer, repository: str) -> None:
    def used() -> int:
        return int(cri("ImageFsInfo").image_filesystems[0].used_bytes.value)

    before = used()
    big = unique_layer(20_000_000)
    image_id = pull(cri, push(registry.address, repository, "big", big))
    eventually(used, lambda value: value > before + 10_000_000, "more used bytes", 30)
    remove(cri, image_id)
