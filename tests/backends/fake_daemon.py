"""A daemon that answers as told: for rubbish and silence, which a real one never gives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes = b"", *, api: str = "1.41", kind: str = "application/json") -> bytes:
    """Return a whole HTTP answer."""
    head = f"HTTP/1.1 {status} X\r\nApi-Version: {api}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class FakeDaemon:
    """`answers` maps the end of a path to what is written; nothing is written, for ever, where the value is None."""

    path: Path
    answers: dict[str, bytes | None] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    listener: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return f"unix://{self.path}"

    def refuse(self) -> None:
        """Take no new connections, and go on with those that are open, as a daemon does that ends."""
        assert self.listener is not None
        self.listener.close()
        self.path.unlink(missing_ok=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                request = head.split("\r\n")[0]
                length = next((line for line in head.lower().split("\r\n") if line.startswith("content-length:")), ":0")
                await reader.readexactly(int(length.split(":")[1]))
                self.requests.append(request)
                path = request.split(" ")[1].split("?")[0]
                answer = next((a for end, a in self.answers.items() if path.endswith(end)), http(404, b"{}"))
                if answer is None:
                    await asyncio.Event().wait()
                    return
                writer.write(answer)
                await writer.drain()
                if b"Content-Length" not in answer:
                    await reader.read()  # an answer without an end, until its reader leaves
                    break
        writer.close()


@contextlib.asynccontextmanager
async def fake_daemon(directory: Path) -> AsyncIterator[FakeDaemon]:
    """Serve on a socket in `directory`, with a ping that is in order."""
    daemon = FakeDaemon(directory / "s", {"/_ping": http(200, b"OK", kind="text/plain")})
    server = daemon.listener = await asyncio.start_unix_server(daemon.serve, daemon.path)
    try:
        yield daemon
    finally:
        server.close()
