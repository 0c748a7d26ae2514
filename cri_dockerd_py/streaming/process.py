"""What a session needs of an engine: functions that open a process's streams or a socket into a pod."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

STDOUT, STDERR = 1, 2


class ProcessIO(Protocol):
    """One end of an exec'd or attached process's streams; reading is pulled, so a slow reader slows the process."""

    async def read(self) -> tuple[int, bytes] | None:
        """Return (1 for stdout or 2 for stderr, chunk), or None when all output has been read."""

    async def write_stdin(self, data: bytes) -> None:
        """Write and wait for room."""

    async def close_stdin(self) -> None:
        """Signal the end of input; may be called twice."""

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the process's terminal."""

    async def wait(self) -> int:
        """Return the exit code once the process has ended (128+n for signal n)."""

    async def kill(self) -> None:
        """SIGKILL what was started."""

    async def close(self) -> None:
        """Let go of the streams; the process goes on; may be called twice."""


#: Arguments: container id, command, tty, stdin, stdout, stderr.
ExecOpener = Callable[[str, tuple[str, ...], bool, bool, bool, bool], Awaitable[ProcessIO]]

#: Arguments: container id, tty, stdin, stdout, stderr.
AttachOpener = Callable[[str, bool, bool, bool, bool], Awaitable[ProcessIO]]

#: Arguments: sandbox id, port. Returns a connected socket that does not block.
PortOpener = Callable[[str, int], Awaitable[socket.socket]]


@dataclass(frozen=True, slots=True)
class Openers:
    """What the streaming server is handed; each raises a class of `errors` when it is refused."""

    exec: ExecOpener
    attach: AttachOpener
    port: PortOpener
