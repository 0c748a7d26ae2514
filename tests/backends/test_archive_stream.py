"""Archives as they come, and layers put together from what Docker noted; damaged ones are refused."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_dockerd_py.backends.archive_stream import END, ArchiveReader, Member, header, padding
from cri_dockerd_py.backends.docker.tar_split import TarSplit
from cri_dockerd_py.backends.docker_archive import is_document, read_archived
from cri_dockerd_py.errors import Unimplemented, Unknown

LONG = "deep/" * 60 + "name"


async def in_chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def archive(kind: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name, content in (("small", b"abc"), (LONG, b"x" * 1500), ("./dotted", b""), ("last", bytes(512))):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1700000000.25
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, LONG
        tar.addfile(link)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("chunk", [1, 511, 1 << 20])
async def test_members_are_read_whatever_the_chunks(kind: int, chunk: int) -> None:
    reader = ArchiveReader(in_chunks(archive(kind), chunk))
    found: dict[str, bytes | str] = {}
    while (member := await reader.next()) is not None:
        content = b"".join([part async for part in reader.content()])
        assert len(content) == member.size
        found[member.name] = content if member.is_file else member.link_target
    assert found == {"small": b"abc", LONG: b"x" * 1500, "dotted": b"", "last": bytes(512), "link": LONG}


async def names_in(reader: ArchiveReader) -> list[str]:
    names = []
    while (member := await reader.next()) is not None:
        names.append(member.name)
    return names


async def test_content_that_is_not_wanted_is_skipped() -> None:
    reader = ArchiveReader(in_chunks(archive(tarfile.GNU_FORMAT), 700))
    assert await names_in(reader) == ["small", LONG, "dotted", "last", "link"]


async def test_what_is_written_is_read_by_others() -> None:
    content = b"1234567"
    written = header(Member("a/b", len(content), is_file=True)) + content + padding(len(content)) + END
    with tarfile.open(fileobj=io.BytesIO(written)) as tar:
        file = tar.extractfile("a/b")
        assert file is not None
        assert file.read() == content


@pytest.mark.parametrize(
    "damaged", [b"", b"x" * 512, archive(tarfile.GNU_FORMAT)[:600], archive(tarfile.PAX_FORMAT)[:2100]]
)
async def test_a_damaged_archive_is_refused(damaged: bytes) -> None:
    reader = ArchiveReader(in_chunks(damaged, 100))
    with pytest.raises(Unknown, match="the archive of an image"):
        await names_in(reader)


def test_links_between_layers_are_followed_and_loops_are_not() -> None:
    config = json.dumps({"rootfs": {"diff_ids": ["sha256:1", "sha256:1"]}}).encode()
    manifest = json.dumps([{"Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"]}]).encode()
    documents = {"c.json": config, "manifest.json": manifest}
    layers = {"a/layer.tar": ("sha256:1", 5, b"\x1f\x8b..")}
    image = read_archived(documents, layers, {"b/layer.tar": "../a/layer.tar"})
    assert [layer.digest for layer in image.layers] == ["sha256:1", "sha256:1"]
    assert image.layers[0].media_type.endswith("tar.gzip")
    with pytest.raises(Unknown, match="not whole"):
        read_archived(documents, layers, {"b/layer.tar": "../b/layer.tar"})
    with pytest.raises(Unknown, match="not whole"):
        read_archived({"c.json": config}, layers, {})


@pytest.mark.parametrize(
    ("name", "size", "first", "expected"),
    [
        ("blobs/sha256/1", 100, b"{", True),
        ("blobs/sha256/1", 100, b"a", False),
        ("x/layer.tar", 100, b"{", False),
        ("manifest.json", 100, b"[", True),
        ("blobs/sha256/1", 1 << 30, b"{", False),
    ],
)
def test_layers_and_documents_are_told_apart(name: str, size: int, first: bytes, expected: bool) -> None:
    assert is_document(Member(name, size, is_file=True), first) is expected


def noted(directory: Path, content: bytes) -> TarSplit:
    """Take a tar apart as Docker does when it unpacks a layer."""
    files = directory / "diff"
    pieces: list[dict[str, object]] = []
    end = 0
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for entry in tar:
            pieces.append({"type": 2, "payload": base64.b64encode(content[end : entry.offset_data]).decode()})
            end = entry.offset_data
            if entry.isreg() and entry.size:
                path = files / entry.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content[end : end + entry.size])
                pieces.append({"type": 1, "name": entry.name, "size": entry.size, "payload": "AAAA"})
                end += entry.size
    pieces.append({"type": 2, "payload": base64.b64encode(content[end:]).decode()})
    notes = directory / "tar-split.json.gz"
    notes.write_bytes(gzip.compress("\n".join(map(json.dumps, pieces)).encode()))
    return TarSplit(notes, files)


def test_a_layer_is_what_it_was_from_every_offset(tmp_path: Path) -> None:
    content = archive(tarfile.PAX_FORMAT)
    split = noted(tmp_path, content)
    assert split.size_bytes() == len(content)
    for offset in (0, 1, 511, 512, 513, 514, 515, 2000, len(content) - 1, len(content)):
        assert b"".join(split.read(offset)) == content[offset:], offset


@pytest.mark.parametrize("harm", ["shorter", "gone", "link", "linked directory"])
def test_files_that_are_not_as_noted_are_refused(tmp_path: Path, harm: str) -> None:
    split = noted(tmp_path, archive(tarfile.GNU_FORMAT))
    file = tmp_path / "diff" / LONG
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "name").write_bytes(file.read_bytes())
    if harm == "shorter":
        file.write_bytes(b"x")
    elif harm == "gone":
        file.unlink()
    elif harm == "link":
        file.unlink()
        file.symlink_to(outside / "name")
    else:
        file.unlink()
        file.parent.rmdir()
        file.parent.symlink_to(outside)
    with pytest.raises(Unimplemented, match="of a layer"):
        list(split.read())
