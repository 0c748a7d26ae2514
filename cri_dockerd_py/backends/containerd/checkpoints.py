"""Checkpoints of running containers: CRIU's images, the changed files and the log in one archive.

The layout is what containerd's CRI plugin, CRI-O and checkpointctl share: `checkpoint/` with CRIU's images,
`rootfs-diff.tar`, `config.dump`, `spec.dump`, `status.dump`, `container.log`, `dump.log`, `stats-dump`.

While one is made, the container is paused. What is under way has a directory, so that whatever a crash interrupts is
resumed and removed at the next comparison with containerd.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import os
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py._generated.containerd_v1.content_pb2 import ReadContentRequest
from cri_dockerd_py._generated.containerd_v1.diff_pb2 import DiffRequest
from cri_dockerd_py._generated.containerd_v1.runc_options_pb2 import CheckpointOptions
from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd.any_value import proto_any
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.leases import Leases
from cri_dockerd_py.backends.containerd.objects import Held, Objects
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.sandbox_prepare import SnapshotsOf
from cri_dockerd_py.backends.containerd.status_file import encode_status
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import Tasks
from cri_dockerd_py.errors import (
    CriError,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)
from cri_dockerd_py.network.settle import settle, settle_call

_LOG = logging.getLogger(__name__)
CHECKPOINT_LEASE = "checkpoint"
_LEASE_EXPIRES_IN_S = 3600.0
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LOCATION = "location"
_IMAGES = "checkpoint"
_CRIU_LOG = "dump.log"
_LOG_TAIL_LINES = 3
#: What of the directory goes into the archive, as far as it is there.
_PARTS = (
    _IMAGES,
    "config.dump",
    "spec.dump",
    "status.dump",
    "rootfs-diff.tar",
    "container.log",
    _CRIU_LOG,
    "stats-dump",
)


class Checkpoints:
    """Writes checkpoint archives."""

    def __init__(
        self,
        client: ContainerdClient,
        tasks: Tasks,
        objects: Objects,
        statuses: Statuses,
        leases: Leases,
        snapshots_of: SnapshotsOf,
        paths: EnginePaths,
    ) -> None:
        self._client = client
        self._tasks = tasks
        self._objects = objects
        self._statuses = statuses
        self._leases = leases
        self._snapshots_of = snapshots_of
        self._directory = paths.checkpoints
        self._under_way: set[str] = set()
        #: Containers that may stand still because of us.
        self._paused: set[str] = set()

    async def write(self, held: Held, location: Path, within_s: float) -> None:
        """Write an archive of mode 0600 to `location` (CKP-01 to CKP-04); the container goes on running."""
        if shutil.which("criu") is None:
            raise Unimplemented("a checkpoint needs CRIU, which this node does not have: install its package criu")
        if held.id in self._under_way:
            raise FailedPrecondition(f"a checkpoint of container {held.id} is being made: wait for it")
        if not location.parent.is_dir():
            raise NotFound(f"checkpoint location {location}: there is no directory {location.parent}")
        record = await self._objects.find(held.id)
        if record is None:
            raise NotFound(f"container {held.id} is not known to containerd")
        self._under_way.add(held.id)
        try:
            async with asyncio.timeout(within_s):
                await self._write(held, record, location)
        except TimeoutError:
            raise DeadlineExceeded(f"the checkpoint of container {held.id} took more than {within_s:g} s") from None
        finally:
            self._under_way.discard(held.id)

    async def _write(self, held: Held, record: Container, location: Path) -> None:
        work = self._directory / held.id
        partial = location.with_name(f".{location.name}.{held.id[:12]}")
        try:
            # Threads are waited for, also when time is up: none writes behind the one that cleans up.
            await settle_call(asyncio.to_thread(_begin, work, partial), f"begin of {work}")
            async with self._standing_still(held.id):
                await self._dump(held, work)
                await self._changed_files(held, work / "rootfs-diff.tar")
            documents = {
                "config.dump": _config(held, record),
                "spec.dump": record.spec.value,
                "status.dump": encode_status(self._statuses.known(held)),
            }
            archive = asyncio.to_thread(_archive, work, documents, held.log_path, partial)
            await settle_call(archive, f"archive {location}")
            await asyncio.to_thread(partial.replace, location)
        finally:
            # A container that could not be resumed keeps its directory, for `sweep`.
            if held.id not in self._paused:
                await asyncio.to_thread(_end, work, partial)

    @contextlib.asynccontextmanager
    async def _standing_still(self, container_id: str) -> AsyncIterator[None]:
        """Pause a container meanwhile: both calls are seen to their ends, whatever happens to the caller."""
        if container_id in self._paused:
            await self._resume(container_id)
        self._paused.add(container_id)
        pausing = asyncio.get_running_loop().create_task(self._tasks.pause(container_id), name=f"pause {container_id}")
        try:
            await settle(pausing)
            yield
        finally:
            if _is_refused(pausing):
                self._paused.discard(container_id)
            else:
                await settle_call(self._resume(container_id), f"resume container {container_id}")

    async def _resume(self, container_id: str) -> None:
        await self._tasks.resume(container_id)
        self._paused.discard(container_id)

    async def _dump(self, held: Held, work: Path) -> None:
        options = CheckpointOptions(image_path=str(work / _IMAGES), work_path=str(work))
        try:
            await self._tasks.checkpoint(held.id, proto_any(options))
        except Unknown as error:
            said = await asyncio.to_thread(_last_lines, work / _CRIU_LOG)
            raise Unknown(f"CRIU could not make a checkpoint of container {held.id}: {error}{said}") from error

    async def _changed_files(self, held: Held, target: Path) -> None:
        """Write what the container has changed in its root file system, as an image layer."""
        snapshots = self._snapshots_of(held.snapshotter)
        info = await snapshots.stat(held.snapshot_key)
        if info is None:
            raise NotFound(f"the root file system of container {held.id} is gone from containerd")
        view = f"checkpoint-{held.id}"
        async with self._leases.held(CHECKPOINT_LEASE, expires_in_s=_LEASE_EXPIRES_IN_S) as lease:
            await snapshots.remove(view)
            image = await snapshots.view(view, info.parent, lease=lease)
            try:
                request = DiffRequest(
                    left=image, right=await snapshots.mounts(held.snapshot_key), media_type=_LAYER, ref=view
                )
                answer = await self._client.call(self._client.diff.Diff, request, lease=lease)
            finally:
                await settle_call(snapshots.remove(view), f"remove snapshot {view}")
            await self._copy(answer.diff.digest, target)

    async def _copy(self, digest: str, target: Path) -> None:
        request = ReadContentRequest(digest=digest)
        with await asyncio.to_thread(target.open, "xb") as file:
            async with contextlib.aclosing(self._client.stream(self._client.content.Read, request)) as answers:
                async for answer in answers:
                    await asyncio.to_thread(file.write, answer.data)

    async def sweep(self) -> None:
        """Resume the containers, and remove the files, of checkpoints that a crash or a lost containerd has cut off."""
        for work in await asyncio.to_thread(host_mounts.children, self._directory):
            if work.name in self._under_way:
                continue
            self._under_way.add(work.name)
            try:
                await self._resume(work.name)
                await asyncio.to_thread(_end, work, _partial_of(work))
            except (CriError, OSError) as error:
                _LOG.warning("a checkpoint of container %s is not cleared up, will try again: %s", work.name, error)
            finally:
                self._under_way.discard(work.name)


def _is_refused(call: asyncio.Task[None]) -> bool:
    """Whether a call has ended with an answer that says no; without any answer it may have been heeded."""
    error = None if call.cancelled() else call.exception()
    return isinstance(error, CriError) and not isinstance(error, Unavailable)


def _begin(work: Path, partial: Path) -> None:
    work.parent.mkdir(0o700, parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(0o700)
    (work / _LOCATION).write_text(str(partial))
    (work / _IMAGES).mkdir(0o700)


def _end(work: Path, partial: Path | None) -> None:
    if partial is not None:
        partial.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def _partial_of(work: Path) -> Path | None:
    try:
        return Path((work / _LOCATION).read_text())
    except OSError:
        return None


def _archive(work: Path, documents: dict[str, bytes], log_path: str, partial: Path) -> None:
    for name, content in documents.items():
        (work / name).write_bytes(content)
    if log_path:
        with contextlib.suppress(OSError):
            _copy_log(log_path, work / "container.log")
    # Neither name is followed where it is a link.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name in _PARTS:
                if (work / name).exists():
                    archive.add(work / name, name)
        file.flush()
        os.fsync(file.fileno())


def _copy_log(log_path: str, target: Path) -> None:
    descriptor = os.open(log_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as log, open(target, "xb") as copy:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            shutil.copyfileobj(log, copy)


def _config(held: Held, record: Container) -> bytes:
    def moment(time_ns: int) -> str:
        return datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC).isoformat()

    now = datetime.datetime.now(datetime.UTC).isoformat()
    document = {
        "id": held.id,
        "name": held.name,
        "rootfsImage": record.image,
        "rootfsImageName": record.image,
        "runtime": held.runtime,
        "createdTime": moment(held.created_at_ns),
        "checkpointedTime": now,
        "restored": False,
    }
    return json.dumps(document).encode()


def _last_lines(path: Path) -> str:
    try:
        lines: Sequence[str] = path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except OSError:
        return ""
    return "".join(f"; {line}" for line in lines)
