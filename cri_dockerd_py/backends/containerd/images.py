"""Images of containerd: pulled and unpacked by ourselves, read from its content store."""

from __future__ import annotations

import asyncio
import platform as host
from collections.abc import Callable, Mapping, Sequence

from cri_dockerd_py.backends.base import ImageStore, untold
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.content import Content
from cri_dockerd_py.backends.containerd.filesystems import SnapshotFilesystem
from cri_dockerd_py.backends.containerd.image_details import ImageDetails, ImageReader, details_of
from cri_dockerd_py.backends.containerd.image_pull import ImagePull, PullSettings
from cri_dockerd_py.backends.containerd.image_records import ImageRecords, image_records
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.backends.containerd.unpack import Unpacker, UnpackJob
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.backends.shared_pulls import SharedPulls
from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.distribution.platform import normalize
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.errors import NotFound
from cri_dockerd_py.model.image import FilesystemUsage, ImageRecord, RegistryAuth
from cri_dockerd_py.model.image_ref import normalize_reference, parse_reference
from cri_dockerd_py.model.layers import chain_ids


class ContainerdImages(ImageStore):
    """`pinned_name` is the pause image's, or empty; `stall_s` is how long a pull may make no progress, 0 for ever.

    `on_fetched` hears of the bytes that come from registries.
    """

    def __init__(
        self,
        client: ContainerdClient,
        registry: Registry,
        leases: Leases,
        *,
        snapshotter: str = "overlayfs",
        stall_s: float,
        pinned_name: str = "",
        max_parallel: int = 3,
        on_fetched: Callable[[int], None] = untold,
    ) -> None:
        self._client = client
        self._leases = leases
        self._content = Content(client)
        self._image_names = ImageRecords(client)
        self._pinned_name = normalize_reference(pinned_name) if pinned_name else ""
        self._unpack_locks = KeyedLocks()
        self._snapshots = Snapshots(client, snapshotter)
        self._filesystem = SnapshotFilesystem(client, self._snapshots)
        #: What images have to be made for.
        self.platform = platform = normalize("linux", host.machine())
        self._reader = ImageReader(self._content, platform)
        settings = PullSettings(platform, stall_s, max_parallel, self._pinned_name, on_fetched)
        unpacker = self._unpacker(self._snapshots)
        self._pull = ImagePull(client, registry, leases, unpacker, self._image_names, settings)
        self._pulls = SharedPulls(self._pull_now)
        self._records: dict[str, ImageRecord] = {}

    @property
    def snapshotter(self) -> str:
        """The snapshotter that images are unpacked into when they are pulled."""
        return self._snapshots.snapshotter

    # --- the interface

    async def pull(self, image: str, auth: RegistryAuth | None) -> str:
        """Fetch and unpack an image and return its id."""
        return await self._pulls.pull(image, auth)

    async def _pull_now(self, image: str, auth: RegistryAuth | None) -> str:
        pulled = await self._pull.pull(parse_reference(image), auth)
        self._reader.put(pulled.target.digest, details_of(pulled))
        return pulled.config.digest

    async def list(self) -> Sequence[ImageRecord]:
        """Return all images that can run here, those of other tools too; each is read only once."""
        records = await self._image_names.list()
        details = await self._reader.read_all([record.target for record in records])
        self._reader.keep_only(details.keys())
        self._records = image_records(records, details, self._pinned_name)
        return list(self._records.values())

    async def inspect(self, image: str) -> ImageRecord | None:
        """Return one image."""
        await self.list()
        if image.startswith("sha256:"):
            return self._records.get(image)
        named = (r for r in self._records.values() if image in r.repo_tags or image in r.repo_digests)
        return next(named, None)

    async def remove(self, image_id: str) -> None:
        """Remove all names of an image; what containers use of it stays until they are gone."""
        await self._image_names.delete(await self.names_of(image_id))

    async def filesystems(self) -> tuple[Sequence[FilesystemUsage], Sequence[FilesystemUsage]]:
        """Return what all snapshots use; writable layers are on the same file system and are in the sum."""
        return (await self._filesystem.measure(),), ()

    async def verbose(self, image_id: str) -> Mapping[str, object]:
        """Return chain id and configuration."""
        details = await self._details(image_id)
        document = await self._content.read_json(image_id)
        return {"chainID": details.chain_id, "imageSpec": document, "labels": dict(details.config.labels)}

    # --- for the rest of this back end

    @property
    def unpacker(self) -> Unpacker:
        """What unpacks into the snapshotter of this store, one layer at a time for all of the service."""
        return self._unpacker(self._snapshots)

    @property
    def filesystem(self) -> SnapshotFilesystem:
        """The file system that images are unpacked on."""
        return self._filesystem

    def known(self, image_id: str) -> ImageRecord | None:
        """Return an image from memory, as last listed or inspected."""
        return self._records.get(image_id)

    async def config_of(self, image_id: str) -> ImageConfig:
        """Return an image's configuration; NotFound when it is not here."""
        return (await self._details(image_id)).config

    async def layers_of(self, image_id: str) -> tuple[Sequence[Descriptor], Sequence[str]]:
        """Return an image's layers as its manifest names them, and their diff ids, bottom first."""
        details = await self._details(image_id)
        return details.layers, details.config.diff_ids

    async def names_of(self, image_id: str) -> tuple[str, ...]:
        """Return the names of all records that stand for an image, its id included when that is one."""
        records = await self._image_names.list()
        details = await self._reader.read_all([record.target for record in records])
        of_image = {digest for digest, found in details.items() if found.id == image_id}
        return tuple(record.name for record in records if record.target.digest in of_image)

    async def ensure_unpacked(self, image_id: str, snapshotter: str, lease: str) -> str:
        """Return the snapshot that has all layers of an image, unpacked now where it is not; `lease` holds it.

        NotFound when the image is not here, or its layers are no longer.
        """
        details = await self._details(image_id)
        chain = chain_ids(details.config.diff_ids)
        unpacker = self._unpacker(Snapshots(self._client, snapshotter))
        present = await unpacker.present(chain, lease)
        if present < len(chain):
            here = asyncio.Event()
            here.set()
            job = UnpackJob(details.id, details.layers, details.config.diff_ids)
            try:
                await unpacker.unpack(job, lease, present, [here] * len(chain))
            except NotFound as error:
                text = f"image {image_id} is not whole on this node ({error}): remove it and pull it again"
                raise NotFound(text) from error
        return details.chain_id

    async def _details(self, image_id: str) -> ImageDetails:
        details = self._reader.by_id(image_id)
        if details is None:
            await self.list()
            details = self._reader.by_id(image_id)
        if details is None:
            raise NotFound(f"image {image_id} is not on this node: pull it first")
        return details

    def _unpacker(self, snapshots: Snapshots) -> Unpacker:
        return Unpacker(self._client, snapshots, self._leases, self._unpack_locks)
