"""Docker Engine behind the engine interface: everything of this folder, put together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cri_dockerd_py.backends.base import Engine, untold
from cri_dockerd_py.backends.docker.checkpoint import CheckpointFiles
from cri_dockerd_py.backends.docker.client import DockerClient, Observer, ignore
from cri_dockerd_py.backends.docker.container_logs import ContainerLogs, JsonFileLogs
from cri_dockerd_py.backends.docker.container_prepare import ContainerPreparation
from cri_dockerd_py.backends.docker.containers import DockerContainers
from cri_dockerd_py.backends.docker.daemon_state import DaemonState
from cri_dockerd_py.backends.docker.events import DockerEvents
from cri_dockerd_py.backends.docker.exec_exits import ExecExits
from cri_dockerd_py.backends.docker.graph_store import DockerImageSource, containerd_namespace
from cri_dockerd_py.backends.docker.image_load import DockerImageSink
from cri_dockerd_py.backends.docker.image_looks import ImageLooks
from cri_dockerd_py.backends.docker.image_pull import Pulls
from cri_dockerd_py.backends.docker.image_volumes import ImageVolumes
from cri_dockerd_py.backends.docker.images import DockerImages
from cri_dockerd_py.backends.docker.marks import Marks
from cri_dockerd_py.backends.docker.objects import DockerObjects
from cri_dockerd_py.backends.docker.oom_watch import OomWatch
from cri_dockerd_py.backends.docker.pause import PauseImage
from cri_dockerd_py.backends.docker.processes import DockerProcesses
from cri_dockerd_py.backends.docker.sandboxes import DockerSandboxes, WriteResolvConf
from cri_dockerd_py.backends.docker.snapshot import DockerSnapshots
from cri_dockerd_py.backends.docker.user_files import ImageUserFiles
from cri_dockerd_py.backends.image_transfer import ImageSink, ImageSource
from cri_dockerd_py.errors import CriError

_LOG = logging.getLogger(__name__)
ENGINE_NAME = "docker"


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """What the composition root decides.

    `pause_image_tar` gives the image `pause_image` to load, None when it is to be pulled. `checkpoint_dirs`: ours
    first, then cri-dockerd's and dockershim's `sandbox` directories. `state_dir` need not survive a reboot.
    """

    endpoint: str
    state_dir: Path
    pause_image: str
    write_resolv_conf: WriteResolvConf
    pause_image_tar: Callable[[], bytes] | None = None
    logs: ContainerLogs = field(default_factory=JsonFileLogs)
    checkpoint_dirs: Sequence[Path] = ()
    call_within_s: float = 119.0
    pull_stall_s: float = 60.0
    observe: Observer = ignore
    on_fetched: Callable[[int], None] = untold


class DockerEngine:
    """`engine` is what the rest of the program holds; a daemon that is away at `start` is no error."""

    def __init__(
        self, client: DockerClient, engine: Engine, prepare: Callable[[], Awaitable[None]], oom_watch: OomWatch
    ) -> None:
        self.engine = engine
        self._oom_watch = oom_watch
        self._client = client
        self._prepare = prepare

    @property
    def image_source(self) -> ImageSource:
        """Where other engines get this engine's images."""
        return DockerImageSource(self._client)

    @property
    def image_sink(self) -> ImageSink:
        """Where other engines' images go."""
        return DockerImageSink(self._client)

    async def image_namespace(self) -> str:
        """Return the containerd namespace that this engine keeps its images in, "" when they are not in containerd."""
        return await containerd_namespace(self._client)

    async def start(self) -> None:
        """Try to have all ready for the first pod; whatever fails is tried again when the daemon is reached."""
        self._oom_watch.start()
        try:
            await self._client.negotiate()
            await self._prepare()
        except CriError as error:
            _LOG.warning("Docker is not ready yet: %s", error)

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        self._oom_watch.close()
        await self._client.close()


def connect(options: DockerOptions) -> DockerEngine:
    """Return the engine; nothing is sent before `start`, or the first call."""
    client = DockerClient(options.endpoint, call_within_s=options.call_within_s, observe=options.observe)
    marks = Marks()
    checkpoints = CheckpointFiles(options.checkpoint_dirs)
    objects = DockerObjects(client, marks, checkpoints.remove)
    daemon = DaemonState(client)
    pulls = Pulls(client, options.pull_stall_s, options.on_fetched)
    pause = PauseImage(client, pulls, options.pause_image, options.pause_image_tar)
    volumes = ImageVolumes(client, options.state_dir)
    images = DockerImages(client, pulls, pinned_name=options.pause_image)
    looks = ImageLooks(client, str(options.state_dir))
    preparation = ContainerPreparation(
        client, daemon, ImageUserFiles(client, looks), looks, images.user_of, volumes, options.logs
    )
    snapshots = DockerSnapshots(client, objects, daemon, images, checkpoints, volumes, options.logs, marks, ENGINE_NAME)

    async def prepare() -> None:
        """Look at the daemon afresh: it may have been restarted, upgraded or emptied."""
        snapshots.forget()
        objects.forget_fresh()
        await daemon.refresh()
        try:
            await looks.sweep()
        except CriError as error:
            _LOG.warning("containers that were made to look into images may be left: %s", error)
        try:
            await pause.ensure(anew=True)
        except CriError as error:
            _LOG.warning("the pause image is missing, so no pod can be started: %s", error)

    sandboxes = DockerSandboxes(objects, daemon, pause, checkpoints, volumes, options.write_resolv_conf, ENGINE_NAME)
    containers = DockerContainers(client, objects, daemon, preparation, options.logs, images.known, marks, ENGINE_NAME)
    execs = ExecExits()
    events = DockerEvents(client, prepare, snapshots.take, marks, execs)
    engine = Engine(ENGINE_NAME, sandboxes, containers, DockerProcesses(client, execs), images, events)
    return DockerEngine(client, engine, prepare, OomWatch(marks))
