"""Processes in containers: ExecSync here, and what the streaming server opens once a session's URL is used."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from cri_dockerd_py.backends.base import ExecSpec, ProcessIO
from cri_dockerd_py.core.engines import Engines
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.core.jobs import Jobs
from cri_dockerd_py.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState

#: Cap of each output: the two together must fit the 16 MiB that callers accept in one message (EXS-06, GEN-03).
_OUTPUT_LIMIT_BYTES = (16 << 20) - (64 << 10)
_STDERR = 2
#: How long a caller whose command is killed waits for that: the kill goes on where the command is not even up.
_SEE_KILL_S = 0.5


@dataclass(frozen=True, slots=True)
class ExecResult:
    """Outcome of an ExecSync; outputs are cut at their head's limit."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class _Output:
    """Collects both outputs up to a common limit and drops the rest."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()

    def take(self, stream: int, chunk: bytes) -> None:
        room = _OUTPUT_LIMIT_BYTES - len(self.stdout) - len(self.stderr)
        target = self.stderr if stream == _STDERR else self.stdout
        target += chunk[: max(room, 0)]


class Execution:
    """Runs commands for probes and hooks, and opens streams for sessions."""

    def __init__(self, engines: Engines, inventory: Inventory, jobs: Jobs, drain_within_s: float) -> None:
        self._engines = engines
        self._inventory = inventory
        self._jobs = jobs
        self._drain_within_s = drain_within_s

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout_s: int) -> ExecResult:
        """Run a command to its end; on expiry kill all that it started and raise DeadlineExceeded (EXS-05)."""
        record = self.running_container(container_id)
        check_command(command)
        process = await self._start(record, ExecSpec(command))
        try:
            async with asyncio.timeout(timeout_s if timeout_s > 0 else None):
                return await self._collect(process)
        except TimeoutError:
            await self._kill(process)
            raise DeadlineExceeded(f"command {command[0]!r} did not end within {timeout_s} s and was killed") from None
        except asyncio.CancelledError:
            await self._kill(process)
            raise
        finally:
            await self._jobs.finish(process.close())

    async def _kill(self, process: ProcessIO) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SEE_KILL_S):
                await self._jobs.finish(process.kill())

    async def _collect(self, process: ProcessIO) -> ExecResult:
        output = _Output()
        reader = asyncio.ensure_future(_read_all(process, output))
        ender = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait((reader, ender), return_when=asyncio.FIRST_COMPLETED)
            exit_code = await ender
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader, self._drain_within_s)
        finally:
            reader.cancel()
            ender.cancel()
            await asyncio.wait((reader, ender))
        return ExecResult(bytes(output.stdout), bytes(output.stderr), exit_code)

    async def open_exec(
        self, container_id: str, command: tuple[str, ...], tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> ProcessIO:
        """Start a command whose streams a session joins."""
        record = self.running_container(container_id)
        spec = ExecSpec(command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
        return await self._start(record, spec)

    async def _start(self, record: ContainerRecord, spec: ExecSpec) -> ProcessIO:
        """Start a command; one whose caller goes away before it is up is killed once it is."""
        side = self._engines.of(record.engine)
        start = side.health.guard(side.engine.processes.exec(record.id, spec))
        return await self._jobs.finish_or_undo(start, _end, _SEE_KILL_S)

    async def open_attach(self, container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> ProcessIO:
        """Join a container's own streams; its terminal decides, not the caller's wish (SEM-04)."""
        record = self.running_container(container_id)
        side = self._engines.of(record.engine)
        return await side.health.guard(
            side.engine.processes.attach(
                record.id, stdin=stdin and record.spec.stdin, stdout=stdout, stderr=stderr, tty=record.spec.tty
            )
        )

    def running_container(self, container_id: str) -> ContainerRecord:
        """Return the container, which must run."""
        record = self._inventory.container(container_id)
        if record.state is not ContainerState.RUNNING:
            raise FailedPrecondition(f"container {record.id} is {record.state.name}, not running")
        return record

    def ready_sandbox(self, sandbox_id: str) -> SandboxRecord:
        """Return the sandbox, which must be READY."""
        record = self._inventory.sandbox(sandbox_id)
        if record.state is not SandboxState.READY:
            raise FailedPrecondition(f"sandbox {record.id} is not ready")
        return record


def check_command(command: tuple[str, ...]) -> None:
    """Refuse an empty command and what the kernel cannot pass on."""
    if not command or not command[0]:
        raise InvalidArgument("the command is empty: give the program to run and its arguments")
    if any("\0" in word for word in command):
        raise InvalidArgument("the command has a NUL byte in it, which no program can be given")


async def _end(process: ProcessIO) -> None:
    try:
        await process.kill()
    finally:
        await process.close()


async def _read_all(process: ProcessIO, output: _Output) -> None:
    while (piece := await process.read()) is not None:
        output.take(*piece)
