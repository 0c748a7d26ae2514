"""Real processes of this machine in the place of an engine's: what sessions are joined to in these tests."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import shutil
import signal
import socket
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field

from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.streaming.netns_dial import NetnsDialer
from cri_dockerd_py.streaming.process import STDERR, STDOUT, Openers

_CHUNK_BYTES = 64 * 1024


class FdReader:
    """Reads a pipe or terminal when it is asked to, and never ahead."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)

    async def wait_readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self.fd, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self.fd)

    async def read(self) -> bytes:
        while True:
            try:
                return os.read(self.fd, _CHUNK_BYTES)
            except BlockingIOError:
                await self.wait_readable()
            except OSError:
                # A terminal without any process on it says EIO.
                return b""


async def write_all(fd: int, data: bytes) -> None:
    """Write to a pipe or terminal that does not block."""
    loop, view = asyncio.get_running_loop(), memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_writer(fd, lambda ready=ready: ready.done() or ready.set_result(None))
            try:
                await ready
            finally:
                loop.remove_writer(fd)


class LocalProcess:
    """A command, as an engine's exec presents it."""

    def __init__(
        self, process: asyncio.subprocess.Process, stdin: int | None, outputs: dict[int, int], tty: bool
    ) -> None:
        self.process = process
        self._stdin = stdin
        self._readers = {stream: FdReader(fd) for stream, fd in outputs.items()}
        self._tty = tty
        self._fds = {fd for fd in (stdin, *outputs.values()) if fd is not None}
        self.killed = False
        self.sizes: list[tuple[int, int]] = []

    async def read(self) -> tuple[int, bytes] | None:
        while self._readers:
            for stream, reader in list(self._readers.items()):
                with contextlib.suppress(BlockingIOError):
                    try:
                        chunk = os.read(reader.fd, _CHUNK_BYTES)
                    except OSError as cause:
                        if isinstance(cause, BlockingIOError):
                            raise
                        chunk = b""
                    if chunk:
                        return stream, chunk
                    del self._readers[stream]
            waits = [asyncio.ensure_future(reader.wait_readable()) for reader in self._readers.values()]
            if waits:
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
                    await asyncio.wait(waits)
        return None

    async def write_stdin(self, data: bytes) -> None:
        if self._stdin is not None:
            await write_all(self._stdin, data)

    async def close_stdin(self) -> None:
        if self._stdin is not None and not self._tty:
            self._close_fd(self._stdin)
            self._stdin = None

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))
        if self._tty and self._stdin is not None:
            fcntl.ioctl(self._stdin, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        code = await self.process.wait()
        return 128 - code if code < 0 else code

    async def kill(self) -> None:
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def close(self) -> None:
        for fd in list(self._fds):
            self._close_fd(fd)
        self._readers.clear()

    def _close_fd(self, fd: int) -> None:
        if fd in self._fds:
            self._fds.discard(fd)
            os.close(fd)


async def start_process(
    command: tuple[str, ...], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
) -> LocalProcess:
    """Run a command in a session of its own, with pipes or on a terminal."""
    if tty:
        return await _start_on_terminal(command)
    inner_in, outer_in = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
    pipes = {stream: os.pipe() for stream, wanted in ((STDOUT, stdout), (STDERR, stderr)) if wanted}
    sink = os.open(os.devnull, os.O_WRONLY)
    inner = [inner_in, sink, *(inner for _, inner in pipes.values())]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=inner_in,
            stdout=pipes[STDOUT][1] if stdout else sink,
            stderr=pipes[STDERR][1] if stderr else sink,
            start_new_session=True,
        )
    except OSError as cause:
        for fd in (outer_in, *(outer for outer, _ in pipes.values())):
            if fd is not None:
                os.close(fd)
        raise NotFound(f"{command[0]}: {cause.strerror}") from cause
    finally:
        for fd in inner:
            os.close(fd)
    if outer_in is not None:
        os.set_blocking(outer_in, False)
    return LocalProcess(process, outer_in, {stream: outer for stream, (outer, _) in pipes.items()}, tty=False)


#: Opening a terminal makes it the controlling one of a session that has none.
_TAKE_TERMINAL = 'exec 3<>"$0" 3>&-; exec "$@"'


async def _start_on_terminal(command: tuple[str, ...]) -> LocalProcess:
    if shutil.which(command[0]) is None:
        raise NotFound(f"{command[0]}: No such file or directory")
    master, slave = pty.openpty()
    words = ("sh", "-c", _TAKE_TERMINAL, os.ttyname(slave), *command)
    environment = {**os.environ, "TERM": "xterm"}
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment
        )
    finally:
        os.close(slave)
    return LocalProcess(process, master, {STDOUT: master}, tty=True)


class LocalContainer:
    """A long-running process that clients attach to; its output goes to all of them."""

    def __init__(self, process: LocalProcess, *, stdin_once: bool) -> None:
        self.process = process
        self.stdin_once = stdin_once
        self.attached: set[Attachment] = set()
        self._pump = asyncio.get_running_loop().create_task(self._copy(), name="test: container output")

    async def _copy(self) -> None:
        while (piece := await self.process.read()) is not None:
            for attachment in list(self.attached):
                await attachment.pieces.put(piece)
        for attachment in list(self.attached):
            await attachment.pieces.put(None)

    async def close(self) -> None:
        await self.process.kill()
        await self.process.wait()
        await asyncio.wait([self._pump])
        await self.process.close()


class Attachment:
    """One client of a container, as an engine's attach presents it."""

    def __init__(self, container: LocalContainer) -> None:
        self._container = container
        self.pieces: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(16)
        self.killed = False
        container.attached.add(self)

    async def read(self) -> tuple[int, bytes] | None:
        return await self.pieces.get()

    async def write_stdin(self, data: bytes) -> None:
        await self._container.process.write_stdin(data)

    async def close_stdin(self) -> None:
        if self._container.stdin_once:
            await self._container.process.close_stdin()

    async def resize(self, width: int, height: int) -> None:
        await self._container.process.resize(width, height)

    async def wait(self) -> int:
        return await self._container.process.wait()

    async def kill(self) -> None:
        self.killed = True

    async def close(self) -> None:
        self._container.attached.discard(self)
        if self._container.stdin_once:
            await self._container.process.close_stdin()


@dataclass
class LocalHost:
    """What an engine would be asked for; remembers what it has started."""

    netns_path: str = ""
    processes: list[LocalProcess] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    container: LocalContainer | None = None
    before_exec: Callable[[], None] = lambda: None
    _dialer: NetnsDialer | None = None

    def openers(self) -> Openers:
        return Openers(self._open_exec, self._open_attach, self._open_port)

    async def _open_exec(
        self, container_id: str, command: tuple[str, ...], tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> LocalProcess:
        self.before_exec()
        if container_id == "stopped":
            raise FailedPrecondition("container stopped is not running")
        process = await start_process(command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
        self.processes.append(process)
        return process

    async def _open_attach(self, container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> Attachment:
        if self.container is None:
            raise NotFound(f"container {container_id} does not exist")
        self.attachments.append(Attachment(self.container))
        return self.attachments[-1]

    async def _open_port(self, pod_sandbox_id: str, port: int) -> socket.socket:
        if self._dialer is None:
            self._dialer = NetnsDialer()
        return await self._dialer.dial(self.netns_path, port)
