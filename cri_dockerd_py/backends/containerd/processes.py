"""Exec and attach on containerd, over FIFOs; checkpoints."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cri_dockerd_py.backends.base import ExecSpec, ProcessIO, ProcessRuntime
from cri_dockerd_py.backends.containerd.attached import AttachedProcess
from cri_dockerd_py.backends.containerd.checkpoints import Checkpoints
from cri_dockerd_py.backends.containerd.execs import Execs
from cri_dockerd_py.backends.containerd.exits import Exits
from cri_dockerd_py.backends.containerd.fifo_streams import FifoReaders, FifoWriter
from cri_dockerd_py.backends.containerd.fifos import Fifos
from cri_dockerd_py.backends.containerd.objects import Objects
from cri_dockerd_py.backends.containerd.oci.process import exec_process
from cri_dockerd_py.backends.containerd.start_errors import start_errors
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import Stdio, Tasks
from cri_dockerd_py.backends.process_tree import kill_tree
from cri_dockerd_py.errors import CriError, FailedPrecondition, NotFound
from cri_dockerd_py.logs.outputs import ContainerOutputs
from cri_dockerd_py.settings.runtimes import RUNC_TYPE

_LOG = logging.getLogger(__name__)
_STDOUT, _STDERR = 1, 2
_RESIZE_TRIES = 25
_RESIZE_PAUSE_S = 0.04


class ExecProcess(ProcessIO):
    """A process that was started beside a container's own. `pid` is 0 where it is not one of this host's."""

    def __init__(
        self,
        tasks: Tasks,
        container_id: str,
        exec_id: str,
        pid: int,
        readers: FifoReaders,
        stdin: FifoWriter | None,
        ended: asyncio.Future[int],
        wanted: frozenset[int],
        let_go: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._container_id = container_id
        self._exec_id = exec_id
        self._pid = pid
        self._readers = readers
        self._stdin = stdin
        self._ended = ended
        self._wanted = wanted
        self._let_go: Callable[[], None] | None = let_go

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next chunk of a stream that was asked for."""
        while (piece := await self._readers.read()) is not None:
            if piece[0] in self._wanted:
                return piece
        return None

    async def write_stdin(self, data: bytes) -> None:
        """Write and wait for room; a process that has ended takes nothing more."""
        if self._stdin is not None:
            await self._stdin.write(data, self._ended)

    async def close_stdin(self) -> None:
        """Let the input end: the shim holds the FIFO open until it is told."""
        if self._stdin is not None and self._stdin.is_open:
            self._stdin.close()
            await self._tasks.close_stdin(self._container_id, exec_id=self._exec_id)

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size; a process that is only just starting refuses it for a moment."""
        for _ in range(_RESIZE_TRIES):
            if self._ended.done():
                return
            try:
                await self._tasks.resize(self._container_id, width, height, exec_id=self._exec_id)
                return
            except CriError as error:
                _LOG.debug("terminal of exec %s: %s", self._exec_id, error)
            await asyncio.sleep(_RESIZE_PAUSE_S)

    async def wait(self) -> int:
        """Return the exit code."""
        return await asyncio.shield(self._ended)

    async def kill(self) -> None:
        """Kill the process and what it started: on the host, since a runtime knows the process alone."""
        if self._ended.done():
            return
        if self._pid:
            await asyncio.to_thread(kill_tree, self._pid)
        else:
            await self._tasks.kill(self._container_id, signal.SIGKILL, exec_id=self._exec_id)

    async def close(self) -> None:
        """Let go of the streams."""
        self._readers.close()
        if self._stdin is not None:
            self._stdin.close()
        if self._let_go is not None:
            let_go, self._let_go = self._let_go, None
            let_go()


class ContainerdProcesses(ProcessRuntime):
    """Exec, attach and checkpoint."""

    def __init__(
        self,
        tasks: Tasks,
        objects: Objects,
        exits: Exits,
        execs: Execs,
        outputs: ContainerOutputs,
        statuses: Statuses,
        fifos: Fifos,
        checkpoints: Checkpoints,
    ) -> None:
        self._checkpoints = checkpoints
        self._tasks = tasks
        self._objects = objects
        self._exits = exits
        self._execs = execs
        self._outputs = outputs
        self._statuses = statuses
        self._fifos = fifos
        self._clean_ups: set[asyncio.Task[None]] = set()

    async def exec(self, container_id: str, spec: ExecSpec) -> ProcessIO:
        """Start a process beside a container's own."""
        held = self._objects.held.get(container_id)
        if held is None:
            raise NotFound(f"container {container_id} is not known to containerd")
        if container_id not in self._objects.running:
            raise FailedPrecondition(f"container {container_id} is not running")
        process = exec_process(await self._objects.process(container_id), spec.command, tty=spec.tty)
        exec_id = secrets.token_hex(16)
        # A shim opens both outputs or none.
        stdio = self._fifos.make_now(
            container_id, exec_id, stdin=spec.stdin, stdout=True, stderr=not spec.tty, terminal=spec.tty
        )
        opened: list[FifoReaders | FifoWriter] = []
        ended = self._execs.expect(container_id, exec_id)
        try:
            readers = FifoReaders({_STDOUT: stdio.stdout, **({_STDERR: stdio.stderr} if stdio.stderr else {})})
            opened.append(readers)
            stdin = FifoWriter(stdio.stdin) if stdio.stdin else None
            if stdin is not None:
                opened.append(stdin)
            pid = await self._start(container_id, exec_id, process, stdio)
        except BaseException:
            for streams in opened:
                streams.close()
            self._execs.forget(exec_id)
            self._fifos.remove_now(stdio)
            raise
        wanted = {_STDOUT: spec.stdout, _STDERR: spec.stderr}
        return ExecProcess(
            self._tasks,
            container_id,
            exec_id,
            pid if held.runtime == RUNC_TYPE else 0,
            readers,
            stdin,
            ended,
            frozenset(stream for stream, is_wanted in wanted.items() if is_wanted),
            lambda: self._clean_up(container_id, exec_id, stdio, ended),
        )

    async def _start(self, container_id: str, exec_id: str, process: object, stdio: Stdio) -> int:
        try:
            with start_errors():
                await self._tasks.exec(container_id, exec_id, process, stdio)
                return await self._tasks.start(container_id, exec_id)
        except BaseException:
            self._spawn(self._tasks.delete_exec(container_id, exec_id), exec_id)
            raise

    def _clean_up(self, container_id: str, exec_id: str, stdio: Stdio, ended: asyncio.Future[int]) -> None:
        """Free what stands for a process: now, or when it has ended. Nobody has to wait for that."""
        self._fifos.remove_now(stdio)
        self._spawn(self._free(container_id, exec_id, ended), exec_id)

    async def _free(self, container_id: str, exec_id: str, ended: asyncio.Future[int]) -> None:
        await asyncio.shield(ended)
        await self._tasks.delete_exec(container_id, exec_id)

    def _spawn(self, job: Coroutine[Any, Any, None], exec_id: str) -> None:
        task = asyncio.get_running_loop().create_task(job, name=f"free exec {exec_id}")
        self._clean_ups.add(task)
        task.add_done_callback(self._cleaned_up)

    def _cleaned_up(self, task: asyncio.Task[None]) -> None:
        self._clean_ups.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.debug("%s: %s", task.get_name(), error)

    async def attach(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> ProcessIO:
        """Join a container's own streams."""
        held = self._objects.held.get(container_id)
        if held is None:
            raise NotFound(f"container {container_id} is not known to containerd")
        streams = {_STDOUT: stdout, _STDERR: stderr and not tty}
        tee = await self._outputs.subscribe(container_id, [stream for stream, wanted in streams.items() if wanted])
        try:
            path = await self._stdin_of(container_id) if stdin and held.stdin else ""
            writer = FifoWriter(path) if path else None
        except BaseException:
            tee.close()
            raise
        return AttachedProcess(held, self._tasks, self._exits, self._statuses, tee, writer)

    async def _stdin_of(self, container_id: str) -> str:
        task = await self._tasks.get(container_id)
        return task.stdin if task is not None else ""

    async def checkpoint(self, container_id: str, location: str, *, within_s: float) -> None:
        """Write a checkpoint archive."""
        held = self._objects.held.get(container_id)
        if held is None:
            raise NotFound(f"container {container_id} is not known to containerd")
        await self._checkpoints.write(held, Path(location), within_s)

    async def close(self) -> None:
        """Leave processes that run to themselves."""
        jobs = list(self._clean_ups)
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)
