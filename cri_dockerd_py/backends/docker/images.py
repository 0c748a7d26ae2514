"""Images of Docker Engine, in its graph drivers or in containerd's store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cri_dockerd_py.backends.base import ImageStore
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.image_convert import ImageConfig, config_of, image_record
from cri_dockerd_py.backends.docker.image_disk import measure
from cri_dockerd_py.backends.docker.image_pull import Pulls
from cri_dockerd_py.backends.shared_pulls import SharedPulls
from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.model.image import FilesystemUsage, ImageRecord, RegistryAuth
from cri_dockerd_py.model.image_ref import normalize_reference, parse_reference

_LOG = logging.getLogger(__name__)
_INSPECTS_AT_ONCE = 8


class DockerImages(ImageStore):
    """`pinned_name` is the pause image's."""

    def __init__(self, client: DockerClient, pulls: Pulls, *, pinned_name: str) -> None:
        self._client = client
        self._fetch = pulls.pull
        self._pinned_name = normalize_reference(pinned_name)
        self._configs: dict[str, ImageConfig] = {}
        self._records: dict[str, ImageRecord] = {}
        self._hidden: set[str] = set()
        self._pulls = SharedPulls(self._pull_now)

    def known(self, image_id: str) -> ImageRecord | None:
        """Return an image from memory, as last listed or inspected."""
        return self._records.get(image_id)

    def user_of(self, image: ImageRecord) -> str:
        """Return the whole user of an image's configuration, with its group."""
        config = self._configs.get(image.id)
        if config is not None:
            return config.user
        return image.username if image.uid is None else str(image.uid)

    async def pull(self, image: str, auth: RegistryAuth | None) -> str:
        """Fetch an image and return its id."""
        return await self._pulls.pull(image, auth)

    async def _pull_now(self, image: str, auth: RegistryAuth | None) -> str:
        await self._fetch(parse_reference(image), auth)
        document = await self._inspect(image)
        if document is None:
            raise NotFound(f"image {image} was pulled and is gone already: somebody removes images; pull it again")
        self._hidden.discard(document["Id"])
        return str(document["Id"])

    async def list(self) -> Sequence[ImageRecord]:
        """Return all images but those that were removed and are still used by containers."""
        documents = await self._client.get("/images/json")
        shown = [document for document in documents or () if document["Id"] not in self._hidden]
        slots = asyncio.Semaphore(_INSPECTS_AT_ONCE)
        configs = await asyncio.gather(*(self._config(document["Id"], slots) for document in shown))
        self._configs = {document["Id"]: config for document, config in zip(shown, configs, strict=True) if config}
        await self._remove_hidden({document["Id"] for document in documents or ()})
        records = [
            image_record(document, config, pinned_name=self._pinned_name)
            for document, config in zip(shown, configs, strict=True)
            if config is not None
        ]
        self._records = {record.id: record for record in records}
        return records

    async def inspect(self, image: str) -> ImageRecord | None:
        """Return one image."""
        document = await self._inspect(image)
        if document is None or document["Id"] in self._hidden:
            return None
        config = self._configs[document["Id"]] = config_of(document)
        if not (document.get("GraphDriver") or {}).get("Data"):
            document["Size"] = await self._listed_size(document["Id"]) or document.get("Size")
        record = self._records[document["Id"]] = image_record(document, config, pinned_name=self._pinned_name)
        return record

    async def remove(self, image_id: str) -> None:
        """Remove all names of an image, then the image; one that containers use is hidden until they are gone."""
        try:
            await self._erase(image_id)
        except FailedPrecondition as error:
            _LOG.info("image %s is hidden and will be removed with its last container: %s", image_id, error)
            self._hidden.add(image_id)

    async def _erase(self, image_id: str) -> None:
        document = await self._inspect(image_id)
        if document is None:
            return
        for name in [*(document.get("RepoTags") or ()), *(document.get("RepoDigests") or ())]:
            if "<none>" not in name:
                await self._delete(name, force=True)
        await self._delete(image_id, force=False)

    async def filesystems(self) -> tuple[Sequence[FilesystemUsage], Sequence[FilesystemUsage]]:
        """Return what the layers use; writable layers are on the same file system and are not counted."""
        info = await self._client.get("/info")
        mountpoint, used_bytes, inodes_used = await measure(self._client, info)
        return (FilesystemUsage(time.time_ns(), mountpoint, used_bytes, inodes_used),), ()

    async def verbose(self, image_id: str) -> Mapping[str, object]:
        """Return Docker's inspect document in the shape of an OCI image configuration."""
        document = await self._inspect(image_id)
        if document is None:
            raise NotFound(f"image {image_id} is not on this node")
        layers = (document.get("RootFS") or {}).get("Layers") or []
        return {
            "labels": config_of(document).labels,
            "imageSpec": {
                "created": document.get("Created"),
                "architecture": document.get("Architecture"),
                "os": document.get("Os"),
                "config": document.get("Config"),
                "rootfs": {"type": "layers", "diff_ids": layers},
            },
        }

    async def _config(self, image_id: str, slots: asyncio.Semaphore) -> ImageConfig | None:
        known = self._configs.get(image_id)
        if known is not None:
            return known
        async with slots:
            document = await self._inspect(image_id)
        return None if document is None else config_of(document)

    async def _inspect(self, image: str) -> dict[str, Any] | None:
        name = image if image.startswith("sha256:") else parse_reference(image).familiar
        try:
            document: dict[str, Any] = await self._client.get("/images/{}/json", name)
        except NotFound:
            return None
        return document

    async def _listed_size(self, image_id: str) -> int:
        """Return the size in the list: with containerd's store an inspect document counts only half of it."""
        for document in await self._client.get("/images/json") or ():
            if document["Id"] == image_id:
                return int(document.get("Size") or 0)
        return 0

    async def _remove_hidden(self, present: set[str]) -> None:
        self._hidden &= present
        for image_id in list(self._hidden):
            try:
                await self._erase(image_id)
            except FailedPrecondition:
                continue
            self._hidden.discard(image_id)

    async def _delete(self, name: str, *, force: bool) -> None:
        try:
            await self._client.delete("/images/{}", name, params={"force": "1"} if force else None)
        except NotFound:
            return
