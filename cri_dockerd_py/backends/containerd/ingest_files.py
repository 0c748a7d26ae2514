"""Ingests of containerd's content store on disk: large blobs are written there and not sent through its socket.

What goes through the socket is copied several times by both sides, and costs containerd more than twice the processor
time. The layout is the same in all versions: `<root>/ingest/<hash>/` with `ref`, the ingest's name behind its namespace
and a number, and `data`, which containerd reads again when the ingest is opened anew. It still locks the ingest,
verifies what was written, and makes it a blob.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from cri_dockerd_py._generated.containerd_v1.introspection_pb2 import PluginsRequest
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.errors import Unknown

CONTENT_PLUGIN = "type==io.containerd.content.v1"
_NOWHERE = Path("/nonexistent")


class IngestFiles:
    """Finds the files of open ingests, where the store is this machine's and its root can be seen from here.

    `root` is the store's directory; left out, containerd is asked.
    """

    def __init__(self, client: ContainerdClient, root: Path | None = None) -> None:
        self._client = client
        self._root = root

    async def open(self, ref: str, offset: int) -> IngestFile | None:
        """Return the file of an ingest that is open in containerd and has `offset` bytes; None when it is not found."""
        root = await self._find_root()
        return await asyncio.to_thread(_open, root / "ingest", self._client.namespace, ref, offset)

    def distrust(self) -> None:
        """Find no more files: containerd does not see what is written to them."""
        self._root = _NOWHERE

    async def _find_root(self) -> Path:
        if self._root is None:
            request = PluginsRequest(filters=[CONTENT_PLUGIN])
            plugins = (await self._client.call(self._client.introspection.Plugins, request)).plugins
            roots = [plugin.exports["root"] for plugin in plugins if "root" in plugin.exports]
            self._root = Path(roots[0]) if len(roots) == 1 else _NOWHERE
        return self._root


class IngestFile:
    """The data of one ingest, which is appended to; `close` it whatever happens."""

    def __init__(self, descriptor: int, ref: str) -> None:
        self._descriptor = descriptor
        self._ref = ref

    async def append(self, parts: Sequence[bytes]) -> None:
        """Write, in a thread; cancelling waits for the thread, so that nothing is written after `close`."""
        job = asyncio.ensure_future(asyncio.to_thread(self._append, parts))
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                await job
            raise
        except OSError as error:
            raise Unknown(
                f"{self._ref} could not be written to containerd's content store: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, parts: Sequence[bytes]) -> None:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def _open(ingests: Path, namespace: str, ref: str, offset: int) -> IngestFile | None:
    try:
        found = [entry for entry in ingests.iterdir() if _is(entry, namespace, ref)]
        if len(found) != 1:
            return None
        descriptor = os.open(found[0] / "data", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return None
    if os.fstat(descriptor).st_size != offset:
        os.close(descriptor)
        return None
    return IngestFile(descriptor, ref)


def _is(entry: Path, namespace: str, ref: str) -> bool:
    try:
        name = (entry / "ref").read_text()
    except (OSError, UnicodeDecodeError):
        return False
    prefix, _, rest = name.partition("/")
    return prefix == namespace and rest.partition("/")[2] == ref
