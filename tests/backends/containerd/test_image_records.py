"""Image records as images."""

from __future__ import annotations

from cri_dockerd_py._generated.containerd_v1.images_pb2 import Image
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor
from cri_dockerd_py.backends.containerd.image_details import ImageDetails
from cri_dockerd_py.backends.containerd.image_records import PINNED, image_records, names_for
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.model.image_ref import parse_reference

ID, OTHER_ID = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
INDEX, MANIFEST, OTHER = ("sha256:" + 64 * digit for digit in "abc")
DETAILS = {
    INDEX: ImageDetails(ID, (), ImageConfig(user="www-data:users", stop_signal="SIGQUIT", labels={"a": "b"}), 30),
    MANIFEST: ImageDetails(ID, (), ImageConfig(user="www-data:users", stop_signal="SIGQUIT", labels={"a": "b"}), 20),
    OTHER: ImageDetails(OTHER_ID, (), ImageConfig(user="1002"), 10),
}


def record(name: str, target: str, **labels: str) -> Image:
    """Return an image record."""
    return Image(name=name, target=Descriptor(digest=target), labels=labels)


def test_records_are_grouped_by_what_they_stand_for() -> None:
    records = [
        record(ID, INDEX),
        record("docker.io/library/z:1", INDEX),
        record("docker.io/library/a:1", MANIFEST),
        record(f"docker.io/library/z@{INDEX}", INDEX),
        record("made by a tool", MANIFEST),
        record("short:1", MANIFEST),
        record("docker.io/library/o:1", OTHER),
        record("docker.io/library/lost:1", "sha256:" + 64 * "d"),
    ]

    found = image_records(records, DETAILS, "")

    assert found.keys() == {ID, OTHER_ID}
    image = found[ID]
    assert image.repo_tags == ("docker.io/library/a:1", "docker.io/library/z:1")
    assert image.repo_digests == (f"docker.io/library/z@{INDEX}",)
    assert (image.size_bytes, image.uid, image.username) == (30, None, "www-data")
    assert (image.stop_signal, image.labels, image.pinned) == ("SIGQUIT", {"a": "b"}, False)
    assert (found[OTHER_ID].uid, found[OTHER_ID].username) == (1002, "")


def test_pinned_by_label_or_by_name() -> None:
    name = "docker.io/library/o:1"

    assert image_records([record(name, OTHER)], DETAILS, name)[OTHER_ID].pinned
    assert image_records([record(OTHER_ID, OTHER, **PINNED), record(name, OTHER)], DETAILS, "")[OTHER_ID].pinned


def test_names_of_a_pulled_image() -> None:
    tagged = names_for(parse_reference("r.example/a:1"), ID, INDEX)
    by_digest = names_for(parse_reference(f"r.example/a@{INDEX}"), ID, INDEX)

    assert tagged == (ID, "r.example/a:1", f"r.example/a@{INDEX}")
    assert by_digest == (ID, f"r.example/a@{INDEX}")
