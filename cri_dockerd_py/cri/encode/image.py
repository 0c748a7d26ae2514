"""Image records and the usage of their stores (IMG)."""

from __future__ import annotations

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.encode.text import clean
from cri_dockerd_py.model.image import FilesystemUsage, ImageRecord


def image(record: ImageRecord) -> pb.Image:
    """Return the image; callers refuse a size of 0 (IMG-03)."""
    return pb.Image(
        id=record.id,
        repo_tags=record.repo_tags,
        repo_digests=record.repo_digests,
        size=max(record.size_bytes, 1),
        uid=None if record.uid is None else pb.Int64Value(value=record.uid),
        username=clean(record.username),
        pinned=record.pinned,
    )


def filesystem_usage(usage: FilesystemUsage) -> pb.FilesystemUsage:
    """Return one file system's usage; kubelet needs both numbers to be present (IMG-60)."""
    return pb.FilesystemUsage(
        timestamp=usage.timestamp_ns,
        fs_id=pb.FilesystemIdentifier(mountpoint=clean(usage.mountpoint)),
        used_bytes=pb.UInt64Value(value=usage.used_bytes),
        inodes_used=pb.UInt64Value(value=usage.inodes_used),
    )
