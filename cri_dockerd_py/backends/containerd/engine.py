"""Containerd behind the engine interface: everything of this folder, put together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cri_dockerd_py.backends.base import Engine, untold
from cri_dockerd_py.backends.containerd import image_import, image_pull
from cri_dockerd_py.backends.containerd.channel import Observer
from cri_dockerd_py.backends.containerd.checkpoints import CHECKPOINT_LEASE, Checkpoints
from cri_dockerd_py.backends.containerd.client import ContainerdClient, ignore
from cri_dockerd_py.backends.containerd.container_prepare import ContainerPreparation
from cri_dockerd_py.backends.containerd.container_update import ContainerUpdate
from cri_dockerd_py.backends.containerd.containers import ContainerdContainers
from cri_dockerd_py.backends.containerd.daemon_state import DaemonState, log_plugin
from cri_dockerd_py.backends.containerd.events import ContainerdEvents
from cri_dockerd_py.backends.containerd.execs import Execs
from cri_dockerd_py.backends.containerd.exits import Exits
from cri_dockerd_py.backends.containerd.fifos import Fifos
from cri_dockerd_py.backends.containerd.image_blobs import ContainerdImageSource
from cri_dockerd_py.backends.containerd.image_import import IMPORT_LEASE, ContainerdImageSink
from cri_dockerd_py.backends.containerd.image_pull import PULL_LEASE
from cri_dockerd_py.backends.containerd.image_share import SHARE_LEASE, NamespaceShare
from cri_dockerd_py.backends.containerd.image_volumes import ImageVolumes
from cri_dockerd_py.backends.containerd.images import ContainerdImages
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.leftovers import Leftovers
from cri_dockerd_py.backends.containerd.objects import Objects
from cri_dockerd_py.backends.containerd.oom_kills import OomKills
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.pause import BuiltInPause, PauseImage
from cri_dockerd_py.backends.containerd.plugin_files import PluginFiles
from cri_dockerd_py.backends.containerd.processes import ContainerdProcesses
from cri_dockerd_py.backends.containerd.runtimes import Runtimes
from cri_dockerd_py.backends.containerd.sandbox_files import SandboxFiles, WriteResolvConf
from cri_dockerd_py.backends.containerd.sandbox_prepare import SandboxPreparation
from cri_dockerd_py.backends.containerd.sandboxes import ContainerdSandboxes
from cri_dockerd_py.backends.containerd.shim_sharing import ShimSharing
from cri_dockerd_py.backends.containerd.shim_slots import ShimSlots
from cri_dockerd_py.backends.containerd.snapshot import ContainerdSnapshots
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import Tasks
from cri_dockerd_py.backends.containerd.user_files import ImageUserFiles
from cri_dockerd_py.backends.containerd.volumes import ImageDeclaredVolumes
from cri_dockerd_py.backends.image_transfer import ImageSink, ImageSource
from cri_dockerd_py.backends.makings import Makings
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.outputs import ContainerOutputs
from cri_dockerd_py.logs.room import FifoKeeper
from cri_dockerd_py.model.node import CgroupDriver
from cri_dockerd_py.settings.runtimes import ContainerdRuntime

_LOG = logging.getLogger(__name__)
ENGINE_NAME = "containerd"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdOptions:
    """What the composition root decides.

    `root_dir` and `state_dir` are the engine's own. `pause_image` is "" for the built-in one; `owner` tells leases of
    this service from others'. `cgroup_driver` is None to go by what pods ask for, and `systemd` whether it runs here.
    `inherited` and `keeper` are for FIFOs that are kept open while no process of the service runs.
    """

    endpoint: str
    root_dir: Path
    state_dir: Path
    write_resolv_conf: WriteResolvConf
    registry: Registry
    owner: str
    architecture: str
    namespace: str = "k8s.io"
    snapshotter: str = "overlayfs"
    runtimes: Sequence[ContainerdRuntime] = ()
    cgroup_driver: CgroupDriver | None = None
    systemd: bool = False
    pause_image: str = ""
    inherited: Mapping[str, int] = field(default_factory=dict)
    keeper: FifoKeeper | None = None
    call_within_s: float = 119.0
    pull_stall_s: float = 60.0
    observe: Observer = ignore
    on_fetched: Callable[[int], None] = untold


#: What leases are for → how long what they hold is kept for a next try, in seconds.
_LEASES = {
    PULL_LEASE: image_pull.KEPT_FOR_S,
    IMPORT_LEASE: image_import.KEPT_FOR_S,
    SHARE_LEASE: 0.0,
    CHECKPOINT_LEASE: 0.0,
}


class ContainerdEngine:
    """`engine` is what the rest of the program holds; a daemon that is away at `start` is no error."""

    def __init__(self, options: ContainerdOptions) -> None:
        self._options = options
        self._client = ContainerdClient(
            options.endpoint,
            namespace=options.namespace,
            call_within_s=options.call_within_s,
            observe=options.observe,
        )
        paths = EnginePaths(options.root_dir, options.state_dir)
        self._outputs = ContainerOutputs(
            options.state_dir / "outputs", inherited=options.inherited, keeper=options.keeper
        )
        runtimes = Runtimes(options.runtimes, options.cgroup_driver, systemd=options.systemd)
        self._daemon = DaemonState(self._client, runtimes, options.snapshotter)
        self._objects = Objects(self._client)
        self._statuses = Statuses(paths)
        self._makings = Makings()
        self._sharing = ShimSharing(self._client, self._objects)
        self._leases = Leases(self._client, options.owner)
        self._images = ContainerdImages(
            self._client,
            options.registry,
            self._leases,
            snapshotter=options.snapshotter,
            stall_s=options.pull_stall_s,
            pinned_name=options.pause_image,
            on_fetched=options.on_fetched,
        )
        tasks, ooms, fifos = Tasks(self._client, ShimSlots(self._objects.shim_of)), OomKills(), Fifos(paths)
        self._exits = Exits(tasks, self._objects, self._outputs, self._statuses, ooms)
        execs = Execs(tasks)
        files = SandboxFiles(paths, options.write_resolv_conf)
        plugin_files = PluginFiles(self._client, self._objects, self._daemon)
        volumes = ImageVolumes(self._snapshots_of(""), self._chain_of, paths.image_volumes)
        checkpoints = Checkpoints(
            self._client, tasks, self._objects, self._statuses, self._leases, self._snapshots_of, paths
        )
        self._leftovers = Leftovers(
            self._client,
            self._objects,
            runtimes,
            self._snapshots_of,
            files,
            volumes,
            paths,
            checkpoints,
            self._end_stale_leases,
        )
        if options.pause_image:
            self._pause: BuiltInPause | PauseImage = PauseImage(options.pause_image, self._images)
        else:
            self._pause = BuiltInPause(paths.pause_rootfs, options.architecture)
        sandboxes = ContainerdSandboxes(
            tasks,
            self._objects,
            self._exits,
            self._makings,
            SandboxPreparation(self._daemon, runtimes, self._pause, files, self._snapshots_of, options.namespace),
            files,
            volumes,
            plugin_files,
            ENGINE_NAME,
        )
        preparation = ContainerPreparation(
            self._daemon,
            runtimes,
            self._objects,
            self._images,
            self._snapshots_of,
            files,
            plugin_files,
            volumes,
            ImageDeclaredVolumes(paths),
            ImageUserFiles(paths.scratch),
            options.namespace,
        )
        containers = ContainerdContainers(
            tasks,
            self._objects,
            self._exits,
            self._makings,
            preparation,
            ContainerUpdate(tasks, self._objects, self._statuses, self._daemon),
            self._outputs,
            self._statuses,
            ooms,
            fifos,
            self._sharing,
            paths,
            plugin_files,
            self._snapshots_of,
            self._images.known,
            ENGINE_NAME,
        )
        self._processes = ContainerdProcesses(
            tasks, self._objects, self._exits, execs, self._outputs, self._statuses, fifos, checkpoints
        )
        snapshots = ContainerdSnapshots(
            tasks,
            self._objects,
            self._exits,
            execs,
            self._daemon,
            self._images,
            self._outputs,
            self._statuses,
            ooms,
            fifos,
            self._leftovers,
            ENGINE_NAME,
        )
        events = ContainerdEvents(self._client, self._prepare, snapshots.take, self._objects, self._exits, execs, ooms)
        self.engine = Engine(ENGINE_NAME, sandboxes, containers, self._processes, self._images, events)

    @property
    def log_counters(self) -> Counters:
        """What was done with containers' output."""
        return self._outputs.counters

    @property
    def image_source(self) -> ImageSource:
        """Where other engines get this engine's images."""
        return ContainerdImageSource(self._client, self._images)

    @property
    def image_sink(self) -> ImageSink:
        """Where other engines' images go."""
        return ContainerdImageSink(self._client, self._images, self._leases)

    def share_from(self, namespace: str) -> NamespaceShare:
        """Return what shares images of another containerd namespace with this engine."""
        other = self._client.in_namespace(namespace)
        return NamespaceShare(other, self._client, self._leases, self._images.platform, self._images.unpacker)

    def share_to(self, namespace: str) -> NamespaceShare:
        """Return what shares this engine's images with another containerd namespace, whose owner unpacks them."""
        other = self._client.in_namespace(namespace)
        leases = Leases(other, self._options.owner)
        return NamespaceShare(self._client, other, leases, self._images.platform, None)

    def _snapshots_of(self, snapshotter: str) -> Snapshots:
        return Snapshots(self._client, snapshotter or self._options.snapshotter)

    async def _chain_of(self, image_id: str, snapshotter: str) -> str:
        return await self._images.ensure_unpacked(image_id, snapshotter, "")

    async def _end_stale_leases(self) -> None:
        for purpose, keep_for_s in _LEASES.items():
            await self._leases.end_stale(purpose, keep_for_s=keep_for_s)

    async def _prepare(self) -> None:
        """Look at the daemon afresh: it may have been restarted, upgraded or emptied."""
        facts = await self._daemon.refresh()
        self._objects.plugin_is_enabled = facts.plugin_is_enabled
        self._statuses.plugin_root = facts.plugin_root
        self._sharing.version = facts.version
        await self._sharing.sweep()
        self._leftovers.look_again()
        log_plugin(facts, self._options.namespace)
        try:
            await self._pause.ensure()
        except CriError as error:
            _LOG.warning("what pods are started from is missing, so no pod can be started: %s", error)

    async def start(self) -> None:
        """Go on with containers' output, then make contact; what fails is tried again when the daemon is reached."""
        await self._outputs.start()
        try:
            await self._prepare()
        except CriError as error:
            _LOG.warning("containerd is not ready yet: %s", error)

    async def close(self) -> None:
        """Let go of containerd; output waits in its pipes for the next process. May be called twice."""
        await self._processes.close()
        await self._makings.close()
        await self._sharing.close()
        await self._exits.close()
        await self._client.close()
        await self._outputs.close()


def connect(options: ContainerdOptions) -> ContainerdEngine:
    """Return the engine; nothing is sent before `start`, or the first call."""
    return ContainerdEngine(options)
