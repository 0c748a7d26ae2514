"""Containerd's image records: names, each of which stands for an index or a manifest.

An image has a record under its id, one for each tag and one for each `repository@digest`, as containerd's CRI plugin
makes them; records that other tools made are read as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from cri_dockerd_py._generated.containerd_v1.images_pb2 import (
    CreateImageRequest,
    DeleteImageRequest,
    GetImageRequest,
    Image,
    ListImagesRequest,
    UpdateImageRequest,
)
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Descriptor
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.image_details import ImageDetails
from cri_dockerd_py.backends.users import split_user
from cri_dockerd_py.errors import AlreadyExists, InvalidArgument, NotFound
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.image_ref import ImageRef, parse_reference

MANAGED = {"io.cri-containerd.image": "managed"}
PINNED = {"io.cri-containerd.pinned": "pinned"}
#: Deleting the last name waits for garbage collection, which reads all of containerd's metadata.
_DELETE_WITHIN_S = 600.0


class ImageRecords:
    """The records of one containerd namespace."""

    def __init__(self, client: ContainerdClient) -> None:
        self._client = client

    async def list(self) -> Sequence[Image]:
        """Return all records."""
        return (await self._client.call(self._client.images.List, ListImagesRequest())).images

    async def put(self, name: str, target: Descriptor, labels: Mapping[str, str]) -> None:
        """Let `name` stand for `target`; labels that it has besides are left."""
        image = Image(name=name, target=target, labels=labels)
        while True:
            with contextlib.suppress(AlreadyExists):
                await self._client.call(self._client.images.Create, CreateImageRequest(image=image))
                return
            with contextlib.suppress(NotFound):
                await self._change(image)
                return

    async def delete(self, names: Sequence[str]) -> None:
        """Delete records; with the last one, wait until what they alone kept has been collected; absent is fine."""
        for name in names:
            request = DeleteImageRequest(name=name, sync=name == names[-1])
            with contextlib.suppress(NotFound):
                await self._client.call(self._client.images.Delete, request, within_s=_DELETE_WITHIN_S)

    async def _change(self, image: Image) -> None:
        present = (await self._client.call(self._client.images.Get, GetImageRequest(name=image.name))).image
        paths = [f"labels.{key}" for key, value in image.labels.items() if present.labels.get(key) != value]
        if present.target.digest != image.target.digest:
            paths.append("target")
        if paths:
            request = UpdateImageRequest(image=image, update_mask=FieldMask(paths=paths))
            await self._client.call(self._client.images.Update, request)


def names_for(reference: ImageRef, image_id: str, target_digest: str) -> tuple[str, ...]:
    """Return the names that a pulled image gets, in the order in which they are to be made."""
    tag = (str(reference),) if reference.tag else ()
    return (image_id, *tag, f"{reference.repository}@{target_digest}")


def image_records(
    records: Sequence[Image], details: Mapping[str, ImageDetails], pinned_name: str
) -> dict[str, ImageRecord]:
    """Return {image id: image} with all its names, of records and of what their targets are."""
    grouped: dict[str, list[Image]] = {}
    for record in records:
        if record.target.digest in details:
            grouped.setdefault(details[record.target.digest].id, []).append(record)
    return {image_id: _image_record(members, details, pinned_name) for image_id, members in grouped.items()}


def _image_record(members: Sequence[Image], details: Mapping[str, ImageDetails], pinned_name: str) -> ImageRecord:
    variants = [details[member.target.digest] for member in members]
    references = [reference for member in members if (reference := _reference(member.name)) is not None]
    config = variants[0].config
    tags = tuple(sorted(str(reference) for reference in references if reference.tag))
    uid, username = split_user(config.user)
    return ImageRecord(
        id=variants[0].id,
        repo_tags=tags,
        repo_digests=tuple(sorted(str(reference) for reference in references if reference.digest)),
        size_bytes=max(variant.size_bytes for variant in variants),
        uid=uid,
        username=username,
        pinned=pinned_name in tags or any(PINNED.items() <= dict(member.labels).items() for member in members),
        stop_signal=config.stop_signal,
        labels=config.labels,
        zstd=any(variant.zstd for variant in variants),
    )


def _reference(name: str) -> ImageRef | None:
    """Return the reference that a record's name is: an id is none, nor is what a tool has made up."""
    if name.startswith(("sha256:", "sha384:", "sha512:")):
        return None
    try:
        reference = parse_reference(name)
    except InvalidArgument:
        return None
    return reference if str(reference) == name else None
