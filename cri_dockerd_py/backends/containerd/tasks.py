"""Tasks: the processes that run of containers, and those that are executed beside them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from cri_dockerd_py._generated.containerd_v1 import process_pb2, tasks_pb2
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends.containerd.any_value import json_any
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.shim_slots import ShimSlots, Slot
from cri_dockerd_py.backends.direct_signal import send_signal
from cri_dockerd_py.errors import CriError, FailedPrecondition, NotFound, Unavailable, Unknown

PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
#: What containerd says of an exit that nobody saw.
UNKNOWN_EXIT_CODE = 255
_SIGKILL = 9
_LOG = logging.getLogger(__name__)
#: The connection to a shim died under a call: it is ending, or is being connected anew.
_SHIM_LOST = "ttrpc: closed"
#: What a shim says of a task that cannot be deleted yet.
_RUNS = "cannot delete a running process"
_RETRY_PAUSES_S = (0.1, 0.4, 0.8)

Answer = TypeVar("Answer")


class TaskState(Enum):
    """Where a task is in its life; UNKNOWN when its shim does not answer."""

    UNKNOWN = process_pb2.UNKNOWN
    CREATED = process_pb2.CREATED
    RUNNING = process_pb2.RUNNING
    STOPPED = process_pb2.STOPPED
    PAUSED = process_pb2.PAUSED
    PAUSING = process_pb2.PAUSING


RUNS = frozenset({TaskState.RUNNING, TaskState.PAUSED, TaskState.PAUSING})


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as containerd knows it; exit data only when STOPPED. `exited_at_ns` is 0 when nobody knows."""

    container_id: str
    state: TaskState
    pid: int
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False
    exit_code: int = 0
    exited_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Stdio:
    """Paths of FIFOs, empty for none."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


class Tasks:
    """Calls of the tasks service, each as often as it takes while a shim is being connected anew.

    `slots` are the shims'; by default every container is taken to have a shim of its own.
    """

    def __init__(self, client: ContainerdClient, slots: ShimSlots | None = None) -> None:
        self._client = client
        self.slots = slots or ShimSlots(str)

    async def create(
        self,
        container_id: str,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        options: Any | None = None,
        runtime_path: str = "",
    ) -> int:
        """Make the container's task, whose process waits for `start`; return its pid."""
        request = tasks_pb2.CreateTaskRequest(
            container_id=container_id,
            rootfs=rootfs,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            options=options,
            runtime_path=runtime_path,
        )
        async with self.slots.hold(container_id, Slot.CALL):
            return (await self._client.call(self._client.tasks.Create, request)).pid

    async def start(self, container_id: str, exec_id: str = "") -> int:
        """Let the process run; return its pid."""
        request = tasks_pb2.StartRequest(container_id=container_id, exec_id=exec_id)
        async with self.slots.hold(container_id, Slot.CALL):
            return (await self._client.call(self._client.tasks.Start, request)).pid

    async def kill(self, container_id: str, number: int, *, exec_id: str = "", everything: bool = False) -> bool:
        """Send a signal; return False when there is nothing to send it to."""
        request = tasks_pb2.KillRequest(container_id=container_id, exec_id=exec_id, signal=number, all=everything)
        try:
            await self._again(lambda: self._client.call(self._client.tasks.Kill, request))
        except NotFound:
            return False
        return True

    async def signal_process(self, container_id: str, pid: int, number: int) -> bool:
        """Send a signal to a task's first process past its shim; return False where that cannot be done.

        Containerd has to answer first: while it is away, nothing is to happen.
        """
        await self._client.ping()
        return await asyncio.to_thread(send_signal, pid, container_id, number)

    async def delete(self, container_id: str) -> TaskInfo | None:
        """Delete a task that has ended, and return how; None when there is none. A running one: FailedPrecondition."""
        request = tasks_pb2.DeleteTaskRequest(container_id=container_id)
        try:
            async with self.slots.hold(container_id, Slot.CALL):
                answer = await self._again(lambda: self._client.call(self._client.tasks.Delete, request))
        except NotFound:
            return None
        except Unknown as error:
            if _RUNS not in str(error):
                raise
            raise FailedPrecondition(str(error)) from error
        return TaskInfo(
            container_id,
            TaskState.STOPPED,
            answer.pid,
            exit_code=answer.exit_status,
            exited_at_ns=time_ns(answer.exited_at),
        )

    async def erase(self, container_id: str, *, within_s: float = 10.0) -> None:
        """Kill and delete a task in whatever state it is; that there is none is fine."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            try:
                await self.delete(container_id)
                return
            except FailedPrecondition:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await self.kill(container_id, _SIGKILL, everything=True)
            await self.resume(container_id)
            await self.wait(container_id, within_s=within_s)

    async def erase_after_failure(self, container_id: str) -> None:
        """Leave no task behind of a start that failed or was given up, whatever becomes of the caller."""
        job = asyncio.ensure_future(self._try_to_erase(container_id))
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait((job,))
            raise

    async def _try_to_erase(self, container_id: str) -> None:
        try:
            await self.erase(container_id)
        except CriError as error:
            _LOG.warning("the task of %s, whose start failed, is still there: %s", container_id, error)

    async def wait(self, container_id: str, *, within_s: float) -> bool:
        """Return whether the task has ended, or is gone, within the time."""
        request = tasks_pb2.WaitRequest(container_id=container_id)
        try:
            await self._client.call(self._client.tasks.Wait, request, within_s=within_s)
        except NotFound:
            return True
        except (Unavailable, Unknown):
            info = await self.get(container_id)
            return info is None or info.state is TaskState.STOPPED
        return True

    async def get(self, container_id: str) -> TaskInfo | None:
        """Return the task, None when there is none."""
        request = tasks_pb2.GetRequest(container_id=container_id)
        try:
            answer = await self._again(lambda: self._client.call(self._client.tasks.Get, request))
        except NotFound:
            return None
        return _info(answer.process)

    async def list(self) -> dict[str, TaskInfo]:
        """Return all tasks of the namespace by their container's id."""
        answer = await self._client.call(self._client.tasks.List, tasks_pb2.ListTasksRequest())
        infos = [_info(process) for process in answer.tasks]
        return {info.container_id: info for info in infos}

    async def pause(self, container_id: str) -> None:
        """Freeze a task's processes."""
        await self._client.call(self._client.tasks.Pause, tasks_pb2.PauseTaskRequest(container_id=container_id))

    async def checkpoint(self, container_id: str, options: Any) -> None:
        """Write CRIU's images of a task to the directories in `options`."""
        request = tasks_pb2.CheckpointTaskRequest(container_id=container_id, options=options)
        async with self.slots.hold(container_id, Slot.CALL):
            await self._client.call(self._client.tasks.Checkpoint, request)

    async def resume(self, container_id: str) -> None:
        """Thaw a paused task; one that is not paused, or not there, is fine."""
        request = tasks_pb2.ResumeTaskRequest(container_id=container_id)
        try:
            await self._client.call(self._client.tasks.Resume, request)
        except Unavailable:
            raise
        except CriError:
            return

    async def update(self, container_id: str, resources: object) -> bool:
        """Set an OCI LinuxResources; return False when nothing runs."""
        request = tasks_pb2.UpdateTaskRequest(container_id=container_id, resources=json_any(RESOURCES_TYPE, resources))
        try:
            async with self.slots.hold(container_id, Slot.CALL):
                await self._client.call(self._client.tasks.Update, request)
        except NotFound:
            return False
        return True

    # --- processes beside the first one

    async def exec(self, container_id: str, exec_id: str, process: object, stdio: Stdio) -> None:
        """Register a process (an OCI Process) to be started by `start`."""
        request = tasks_pb2.ExecProcessRequest(
            container_id=container_id,
            exec_id=exec_id,
            spec=json_any(PROCESS_TYPE, process),
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
        )
        await self._client.call(self._client.tasks.Exec, request)

    async def exec_state(self, container_id: str, exec_id: str) -> TaskInfo | None:
        """Return a registered process, None when there is none."""
        request = tasks_pb2.GetRequest(container_id=container_id, exec_id=exec_id)
        try:
            answer = await self._again(lambda: self._client.call(self._client.tasks.Get, request))
        except NotFound:
            return None
        return _info(answer.process)

    async def delete_exec(self, container_id: str, exec_id: str) -> None:
        """Free a process that has ended, or was never started; that it is gone is fine."""
        request = tasks_pb2.DeleteProcessRequest(container_id=container_id, exec_id=exec_id)
        try:
            await self._client.call(self._client.tasks.DeleteProcess, request)
        except (NotFound, FailedPrecondition):
            return
        except Unknown as error:
            if _SHIM_LOST not in str(error):
                raise

    async def resize(self, container_id: str, width: int, height: int, *, exec_id: str = "") -> None:
        """Set the size of a process's terminal."""
        request = tasks_pb2.ResizePtyRequest(container_id=container_id, exec_id=exec_id, width=width, height=height)
        await self._client.call(self._client.tasks.ResizePty, request)

    async def close_stdin(self, container_id: str, *, exec_id: str = "") -> None:
        """Let a process's input end after what has been written; that the process is gone is fine."""
        request = tasks_pb2.CloseIORequest(container_id=container_id, exec_id=exec_id, stdin=True)
        try:
            await self._client.call(self._client.tasks.CloseIO, request)
        except NotFound:
            return

    async def _again(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        for pause_s in _RETRY_PAUSES_S:
            try:
                return await call()
            except Unknown as error:
                if _SHIM_LOST not in str(error):
                    raise
            await asyncio.sleep(pause_s)
        try:
            return await call()
        except Unknown as error:
            if _SHIM_LOST not in str(error):
                raise
            raise Unavailable(f"the shim of the container does not answer: {error}") from error


def time_ns(stamp: Timestamp) -> int:
    """Return a time as ns since the epoch, 0 where none is set."""
    return max(0, stamp.seconds * 10**9 + stamp.nanos)


def _info(process: process_pb2.Process) -> TaskInfo:
    return TaskInfo(
        # Some releases leave `container_id` empty in lists; `id` is the same for a first process.
        container_id=process.container_id or process.id,
        state=TaskState(process.status),
        pid=process.pid,
        stdin=process.stdin,
        stdout=process.stdout,
        stderr=process.stderr,
        terminal=process.terminal,
        exit_code=process.exit_status,
        exited_at_ns=time_ns(process.exited_at),
    )
