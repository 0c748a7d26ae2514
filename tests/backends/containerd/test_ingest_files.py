"""Large blobs, written to the content store's own files."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

import pytest

from cri_dockerd_py._generated.containerd_v1.content_pb2 import STAT, WriteContentRequest
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.content_sink import ContentSink
from cri_dockerd_py.backends.containerd.ingest_files import IngestFiles
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.distribution.descriptor import Descriptor, digest_of
from cri_dockerd_py.distribution.media_types import OCI_LAYER
from cri_dockerd_py.distribution.sink import ContentMismatch
from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.image_ref import parse_reference
from tests.engines import ContainerdNode

_SIZE = 5_000_000
_SOURCE = parse_reference("registry.example:5000/team/app:1")


async def test_the_file_of_an_open_ingest_is_found(containerd: ContainerdClient) -> None:
    files = IngestFiles(containerd)
    ref = f"test-{secrets.token_hex(8)}"
    stream = containerd.write_content(lease="")
    await stream.send(WriteContentRequest(action=STAT, ref=ref, total=_SIZE))
    assert (await stream.receive()).offset == 0

    found = await files.open(ref, 0)
    assert found is not None
    await found.append([b"some", b"bytes"])
    found.close()
    found.close()
    await stream.end()
    stream.close()

    again = containerd.write_content(lease="")
    await again.send(WriteContentRequest(action=STAT, ref=ref, total=_SIZE))
    assert (await again.receive()).offset == 9
    assert await files.open(ref, 0) is None, "the file has other bytes than containerd said"
    again.close()


async def test_no_file_is_found_for_what_is_not_written(containerd: ContainerdClient) -> None:
    assert await IngestFiles(containerd).open(f"test-{secrets.token_hex(8)}", 0) is None


async def test_a_blob_is_written_through_the_socket_where_the_store_cannot_be_seen(
    containerd: ContainerdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cri_dockerd_py.backends.containerd.ingest_files.CONTENT_PLUGIN", "type==no.such.plugin")
    content = secrets.token_bytes(_SIZE)
    async with Leases(containerd, "test-files").held("test", expires_in_s=600) as lease:
        sink = ContentSink(containerd, lease, KeyedLocks())
        descriptor = Descriptor(OCI_LAYER, digest_of(content), _SIZE)
        writer = await sink.open(descriptor, _SOURCE)
        assert writer is not None
        for start in range(0, _SIZE, 300_000):
            await writer.write(content[start : start + 300_000])
        await writer.commit()
        assert await Content(containerd).read(descriptor.digest, limit_bytes=_SIZE) == content


async def test_what_goes_to_the_file_is_in_the_store_before_it_is_committed(
    containerd: ContainerdClient, containerd_node: ContainerdNode
) -> None:
    content = secrets.token_bytes(_SIZE)
    async with Leases(containerd, "test-files").held("test", expires_in_s=600) as lease:
        descriptor = Descriptor(OCI_LAYER, digest_of(content), _SIZE)
        writer = await ContentSink(containerd, lease, KeyedLocks()).open(descriptor, _SOURCE)
        assert writer is not None
        await writer.write(content[:3_000_000])
        ingests = Path(containerd_node.directory, "c-root", "io.containerd.content.v1.content", "ingest")
        (data,) = [ref.parent / "data" for ref in ingests.glob("*/ref") if descriptor.digest in ref.read_text()]
        assert data.read_bytes() == content[:3_000_000]
        await writer.abandon(keep=False)


async def test_files_that_containerd_does_not_read_are_not_used_again(
    containerd: ContainerdClient, tmp_path: Path
) -> None:
    content = secrets.token_bytes(_SIZE)
    descriptor = Descriptor(OCI_LAYER, digest_of(content), _SIZE)
    entry = tmp_path / "ingest" / "x"
    entry.mkdir(parents=True)
    (entry / "ref").write_text(f"{containerd.namespace}/1/layer-{descriptor.digest}")
    (entry / "data").touch()
    async with Leases(containerd, "test-files").held("test", expires_in_s=600) as lease:
        sink = ContentSink(containerd, lease, KeyedLocks(), IngestFiles(containerd, tmp_path))
        for goes_well in (False, True):
            writer = await sink.open(descriptor, _SOURCE)
            assert writer is not None
            await writer.write(content)
            with contextlib.nullcontext() if goes_well else pytest.raises(ContentMismatch, match="finds 0 bytes"):
                await writer.commit()

        assert await Content(containerd).read(descriptor.digest, limit_bytes=_SIZE) == content


async def test_a_full_disk_is_told(containerd: ContainerdClient, tmp_path: Path) -> None:
    entry = tmp_path / "ingest" / "x"
    entry.mkdir(parents=True)
    (entry / "ref").write_text(f"{containerd.namespace}/1/some-ref")
    (entry / "data").symlink_to("/dev/full")
    files = IngestFiles(containerd, tmp_path)
    found = await files.open("some-ref", 0)
    assert found is not None
    with pytest.raises(Unknown, match="No space left on device"):
        await found.append([b"x"])
    found.close()
