"""Puts the rooms of core together around one engine, and runs what runs in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cri_dockerd_py.backends.base import Engine
from cri_dockerd_py.core.containers import Containers
from cri_dockerd_py.core.events import Events
from cri_dockerd_py.core.execution import Execution
from cri_dockerd_py.core.feed import Feed
from cri_dockerd_py.core.gate import Gates
from cri_dockerd_py.core.health import EngineHealth
from cri_dockerd_py.core.identities import Identities
from cri_dockerd_py.core.images import Images
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.core.node_status import NodeStatus
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.recovery import Recovery
from cri_dockerd_py.core.sandboxes import Sandboxes
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.pod_network import PodNetwork
from cri_dockerd_py.store.records import Records

_FILESYSTEMS_EVERY_S = 60.0
_SETTLE_WITHIN_S = 5.0
_LOOK_AGAIN_S = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What core needs to know of the settings."""

    runtime_name: str
    exec_drain_timeout_s: float
    resync_interval_s: float
    cni_gc: bool
    effective: Callable[[], Mapping[str, object]]
    observers: CoreObservers = field(default_factory=CoreObservers)


class Core:
    """All of core but statistics and sessions, which are built around it."""

    def __init__(
        self, engine: Engine, network: PodNetwork, netns: NetnsDir, records: Records, settings: CoreSettings
    ) -> None:
        gates, self._jobs = Gates(), Jobs()
        self._records = records
        self._settings = settings
        self.inventory = Inventory()
        self.events = Events(self.inventory)
        self.health = EngineHealth(engine.name)
        self.status = NodeStatus(settings.runtime_name, self.health, network, settings.effective)
        self.attachments = PodAttachments(network, netns, records)
        identities = Identities(self.inventory)
        self.images = Images(engine, self.health, self.inventory, self._jobs, self.status, settings.observers)
        self.sandboxes = Sandboxes(
            engine,
            self.health,
            self.inventory,
            identities,
            self.attachments,
            records,
            gates,
            self._jobs,
            self.status,
        )
        self.containers = Containers(
            engine, self.health, self.inventory, identities, self.images, records, gates, self._jobs
        )
        self.execution = Execution(engine, self.health, self.inventory, self._jobs, settings.exec_drain_timeout_s)
        self.recovery = Recovery(engine, self.inventory, identities, self.attachments, records, self.status)
        self.feed = Feed(
            engine,
            self.health,
            self.inventory,
            identities,
            self.images,
            self.recovery,
            records,
            self._jobs,
            settings.resync_interval_s,
            settings.observers,
        )

    async def restore(self) -> None:
        """Take over what an earlier process had on record; before anything runs."""
        self.attachments.restore((await self._records.load()).attachments)

    def run_in(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start following the engine."""
        jobs = [
            group.create_task(self.feed.follow(), name="engine events"),
            group.create_task(self.feed.watch(), name="engine watch"),
            group.create_task(self.feed.resync_regularly(), name="resync"),
            group.create_task(self.images.keep_filesystems_fresh(_FILESYSTEMS_EVERY_S), name="image filesystems"),
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
