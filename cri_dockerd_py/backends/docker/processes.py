"""Exec and attach on Docker Engine: hijacked connections as process streams."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from cri_dockerd_py.backends.base import ExecSpec, ProcessIO, ProcessRuntime
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.exec_exits import ExecExits
from cri_dockerd_py.backends.docker.hijack import HijackedConnection
from cri_dockerd_py.backends.process_tree import kill_tree
from cri_dockerd_py.errors import CriError, FailedPrecondition, NotFound, Unimplemented, Unknown

_STDOUT, _STDERR = 1, 2
_CHUNK_BYTES = 64 << 10
_HEADER_BYTES = 8
_FAILED_START = b"OCI runtime exec failed"
_NOT_STARTED_CODES = frozenset({126, 127})
_LOOK_WHILE_OPEN_S = 0.5
_TOLD_WITHIN_S = 0.02
_FIRST_LOOK_S = 0.002
_LAST_LOOK_S = 0.25
_RESIZE_TRIES = 25
_RESIZE_PAUSE_S = 0.04
_KILLED_EXIT_CODE = 137
_KILL_TRIES = 500
_KILL_PAUSE_S = 0.02
_LOG = logging.getLogger(__name__)


class _Streams(ProcessIO):
    """The part that exec and attach share: reading, writing, closing."""

    def __init__(self, client: DockerClient, connection: HijackedConnection, *, tty: bool) -> None:
        self._client = client
        self._connection = connection
        self._tty = tty
        self._ended = asyncio.Event()
        self._left = 0
        self._stream = _STDOUT

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next chunk of stdout or stderr; a terminal has only the first."""
        chunk = await self._connection.read(_CHUNK_BYTES) if self._tty else await self._framed()
        if chunk:
            return self._stream, chunk
        self._ended.set()
        return None

    async def _framed(self) -> bytes:
        while not self._left:
            header = await self._connection.readexactly(_HEADER_BYTES)
            if len(header) < _HEADER_BYTES:
                return b""
            self._stream = _STDOUT if header[0] <= _STDOUT else _STDERR
            self._left = int.from_bytes(header[4:], "big")
        chunk = await self._connection.read(min(self._left, _CHUNK_BYTES))
        self._left -= len(chunk)
        return chunk

    async def write_stdin(self, data: bytes) -> None:
        """Write and wait for room."""
        await self._connection.write(data)

    async def close_stdin(self) -> None:
        """Half-close the connection."""
        self._connection.write_eof()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
        self._ended.set()

    async def _resize(self, path: str, object_id: str, width: int, height: int) -> None:
        """Set the terminal's size; a process that is only just starting refuses it for a moment."""
        params = {"h": str(height), "w": str(width)}
        for _ in range(_RESIZE_TRIES):
            with contextlib.suppress(CriError):
                await self._client.post(path, object_id, params=params)
                return
            if self._ended.is_set():
                return
            await asyncio.sleep(_RESIZE_PAUSE_S)


class ExecProcess(_Streams):
    """A process that was started beside a container's own."""

    def __init__(
        self, client: DockerClient, connection: HijackedConnection, exec_id: str, exits: ExecExits, *, tty: bool
    ) -> None:
        super().__init__(client, connection, tty=tty)
        self._exec_id = exec_id
        self._exits = exits
        self._exit = exits.expect(exec_id)
        self._read_any = False

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next chunk; raises Unknown with the runtime's text when the command could not be executed."""
        piece = await super().read()
        if not self._read_any and piece is not None and piece[1].startswith(_FAILED_START):
            await self._raise_if_never_started(piece[1])
        self._read_any = True
        return piece

    async def wait(self) -> int:
        """Return the exit code: Docker tells it when the streams have ended, or has to be asked."""
        pause_s = _FIRST_LOOK_S
        while True:
            if not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_WHILE_OPEN_S):
                        await self._ended.wait()
            if self._ended.is_set() and not self._exit.done():
                await asyncio.wait((self._exit,), timeout=_TOLD_WITHIN_S)
            if self._exit.done():
                return self._exit.result()
            state = await self._inspect()
            if state is None:
                return _KILLED_EXIT_CODE
            if _has_ended(state):
                return int(state["ExitCode"])
            if self._ended.is_set():
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_LOOK_S)

    async def close(self) -> None:
        """Close the connection."""
        self._exits.forget(self._exec_id)
        await super().close()

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal."""
        await self._resize("/exec/{}/resize", self._exec_id, width, height)

    async def kill(self) -> None:
        """Kill the process on the host: Docker has no call for it, and answers a start before the process is up."""
        for _ in range(_KILL_TRIES):
            state = await self._inspect()
            if state is None or _has_ended(state):
                return
            if state.get("Pid"):
                await asyncio.to_thread(kill_tree, int(state["Pid"]))
                return
            await asyncio.sleep(_KILL_PAUSE_S)
        _LOG.warning("exec %s has not come up, so its process was not killed", self._exec_id)

    async def _raise_if_never_started(self, text: bytes) -> None:
        self._ended.set()
        if await self.wait() in _NOT_STARTED_CODES:
            state = await self._inspect()
            if state is None or not state.get("Pid"):
                raise Unknown(text.decode("utf-8", "replace").strip())

    async def _inspect(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = await self._client.get("/exec/{}/json", self._exec_id)
        except NotFound:
            return None
        return state


def _has_ended(state: Mapping[str, Any]) -> bool:
    return not state.get("Running") and state.get("ExitCode") is not None


class AttachedProcess(_Streams):
    """A container's own process, joined."""

    def __init__(self, client: DockerClient, connection: HijackedConnection, container_id: str, *, tty: bool) -> None:
        super().__init__(client, connection, tty=tty)
        self._container_id = container_id

    async def wait(self) -> int:
        """Return the container's exit code, or 0 when its output ended while it runs."""
        await self._ended.wait()
        try:
            document = await self._client.get("/containers/{}/json", self._container_id)
        except NotFound:
            return _KILLED_EXIT_CODE
        return int(document["State"].get("ExitCode") or 0)

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the container's terminal."""
        await self._resize("/containers/{}/resize", self._container_id, width, height)

    async def kill(self) -> None:
        """A container's own process is never killed by a client that leaves."""


class DockerProcesses(ProcessRuntime):
    """Exec, attach and checkpoint."""

    def __init__(self, client: DockerClient, exits: ExecExits) -> None:
        self._client = client
        self._exits = exits

    async def exec(self, container_id: str, spec: ExecSpec) -> ProcessIO:
        """Start a process beside a container's own."""
        body = {
            "Cmd": list(spec.command),
            "AttachStdin": spec.stdin,
            "AttachStdout": spec.stdout,
            "AttachStderr": spec.stderr and not spec.tty,
            "Tty": spec.tty,
        }
        created = await self._client.post("/containers/{}/exec", container_id, body=body)
        exec_id = str(created["Id"])
        self._exits.expect(exec_id)
        try:
            connection = await self._client.hijack("/exec/{}/start", exec_id, body={"Detach": False, "Tty": spec.tty})
        except BaseException:
            self._exits.forget(exec_id)
            raise
        return ExecProcess(self._client, connection, exec_id, self._exits, tty=spec.tty)

    async def attach(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> ProcessIO:
        """Join a container's own streams."""
        wanted = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty}
        params = {name: "1" for name, on in wanted.items() if on}
        connection = await self._client.hijack("/containers/{}/attach", container_id, params=params)
        return AttachedProcess(self._client, connection, container_id, tty=tty)

    async def checkpoint(self, container_id: str, location: str, *, within_s: float) -> None:
        """Docker keeps checkpoints in its own place and form, from which no archive can be made."""
        if not location.startswith("/"):
            raise FailedPrecondition(f"checkpoint location {location!r} must be an absolute path")
        raise Unimplemented("Docker Engine cannot write a checkpoint as the archive that CRI asks for")
