"""Puts the rooms of core together around the engines, and runs what runs in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.core.container_stopping import ContainerStopping
from cri_dockerd_py.core.containers import Containers
from cri_dockerd_py.core.engines import Engines, Side
from cri_dockerd_py.core.events import Events
from cri_dockerd_py.core.execution import Execution
from cri_dockerd_py.core.feed import Feed
from cri_dockerd_py.core.gate import Gates
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.image_disk import ImageDisk
from cri_dockerd_py.core.images import Images
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.last_known import LastKnown
from cri_dockerd_py.core.migration_port import MigrationPort
from cri_dockerd_py.core.node_status import NodeStatus
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.recovery import Recovery
from cri_dockerd_py.core.sandboxes import Sandboxes
from cri_dockerd_py.core.tombstones import Tombstones
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.pod_network import PodNetwork
from cri_dockerd_py.store.choices import Choices
from cri_dockerd_py.store.database import Database
from cri_dockerd_py.store.kept import KeptRecords
from cri_dockerd_py.store.records import Records

_FILESYSTEMS_EVERY_S = 60.0
_SETTLE_WITHIN_S = 5.0
_LOOK_AGAIN_S = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What core needs to know of the settings; `runtime_name` is empty for the name of the node's first engine."""

    runtime_name: str
    exec_drain_timeout_s: float
    resync_interval_s: float
    cni_gc: bool
    effective: Callable[[], Mapping[str, object]]
    #: Called with an engine's name.
    observers: Callable[[str], CoreObservers] = lambda _engine: CoreObservers()


class Core:
    """All of core but statistics and sessions, which are built around it."""

    def __init__(
        self,
        engines: Sequence[Engine],
        network: PodNetwork,
        netns: NetnsDir,
        database: Database,
        settings: CoreSettings,
    ) -> None:
        self._gates, self._jobs = Gates(), Jobs()
        self._records, self._kept = Records(database), KeptRecords(database)
        self._settings = settings
        self.engines = Engines(engines, Choices(database))
        self.inventory = Inventory()
        self.events = Events(self.inventory)
        self.status = NodeStatus(self.engines, network, settings.effective)
        self.attachments = PodAttachments(network, netns, self._records)
        self._identities = Identities(self.inventory)
        self._disk = ImageDisk(self.engines)
        self._last_known = LastKnown(self.inventory, self.attachments)
        self._tombstones = Tombstones(self.engines, self.inventory, self.attachments, self._kept, self._gates)
        self.images = Images(self.engines, self.inventory, self._jobs, self._kept, self._disk, settings.observers)
        stopping = ContainerStopping(self.inventory)
        self.sandboxes = Sandboxes(
            self.engines,
            self.inventory,
            self._identities,
            self.attachments,
            self._records,
            self._gates,
            self._jobs,
            stopping,
        )
        self.containers = Containers(
            self.engines,
            self.inventory,
            self._identities,
            self.images,
            self._records,
            self._gates,
            self._jobs,
            stopping,
        )
        self.execution = Execution(self.engines, self.inventory, self._jobs, settings.exec_drain_timeout_s)
        self.migration = MigrationPort(
            self.engines, self.inventory, self.images, self._tombstones, self._kept, self._gates
        )
        self._feeds = {side.name: self._feed(side) for side in self.engines}

    def _feed(self, side: Side) -> Feed:
        recovery = Recovery(
            side,
            self.engines,
            self.inventory,
            self._identities,
            self.images,
            self.attachments,
            self._records,
            self._kept,
            self._tombstones,
        )
        return Feed(
            side,
            self.inventory,
            self._identities,
            self.images,
            self._disk,
            recovery,
            self._records,
            self._jobs,
            self._settings.resync_interval_s,
            self._settings.observers(side.name),
        )

    async def restore(self) -> None:
        """Take over what an earlier process had on record; before anything runs."""
        stored = await self._records.load()
        self.attachments.restore(stored.attachments)
        await self.engines.restore()
        self.status.runtime_name = self._settings.runtime_name or await self.engines.settle_runtime_name()
        self.inventory.image_list.prefer(self.engines.default.name)
        self.engines.on_default.append(self.inventory.image_list.prefer)
        self._last_known.restore(await self._kept.load(), stored)

    async def first_contact(self, within_s: float) -> None:
        """Return when every engine has been looked at; one that is away is told of as it was last seen."""
        await asyncio.gather(*(side.health.wait_ready(within_s) for side in self.engines))
        for side in self.engines:
            if side.health.ready:
                continue
            remembered = self._last_known.assume(side)
            with_what = "with its pods as last seen" if remembered else "without knowing its pods"
            _LOG.warning("serving without %s, %s: %s", side.name, with_what, side.health.reason)
        self._last_known.forget()
        self.inventory.known = self.engines.all_known

    def run_in(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start following the engines."""
        jobs = [group.create_task(self._disk.keep_fresh(_FILESYSTEMS_EVERY_S), name="image filesystems")]
        for name, feed in self._feeds.items():
            jobs += [
                group.create_task(feed.follow(), name=f"{name} events"),
                group.create_task(feed.watch(), name=f"{name} watch"),
                group.create_task(feed.resync_regularly(), name=f"{name} resync"),
            ]
        if self._settings.cni_gc:
            jobs.append(group.create_task(self._collect_network_garbage(), name="network garbage"))
        return jobs

    async def _collect_network_garbage(self) -> None:
        """Once, when it is known what pods there are."""
        while True:
            if self.inventory.known:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        try:
            await self.attachments.collect_garbage()
        except CriError as error:
            _LOG.warning("the network plugins could not collect garbage: %s", error)

    async def close(self) -> None:
        """Let what was begun end."""
        await self._jobs.close(_SETTLE_WITHIN_S)
