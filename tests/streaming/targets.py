"""TCP targets of forwarded connections, in this process or in a network namespace of its own."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and end when it ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def answer_at_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end, think, and only then answer."""
    data = await reader.read()
    await asyncio.sleep(1.5)
    writer.write(b"answer to " + data)


@contextmanager
def network_namespace() -> Iterator[str]:
    """A network namespace with its loopback up; returns its path."""
    name = f"cri-strm-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def listen(address: str, netns_path: str = "", port: int = 0) -> socket.socket:
    """Return a listening socket, made inside a network namespace when one is given."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            if netns_path:
                with open(netns_path) as file:
                    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server((address, port), family=family, backlog=200))
        except OSError as cause:
            made.append(cause)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


@asynccontextmanager
async def target(serve: Serve = echo, address: str = "127.0.0.1", netns_path: str = "") -> AsyncIterator[int]:
    """Serve a port while in use; returns its number."""

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    sock = listen(address, netns_path)
    server = await asyncio.start_server(serve_and_close, sock=sock)
    try:
        yield sock.getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
