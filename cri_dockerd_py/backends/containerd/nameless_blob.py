"""A blob whose digest is known only when all of it has been written."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from cri_dockerd_py._generated.containerd_v1.content_pb2 import (
    COMMIT,
    STAT,
    WRITE,
    AbortRequest,
    WriteContentRequest,
)
from cri_dockerd_py.backends.containerd.channel import Dialogue
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.errors import AlreadyExists, CriError, Unavailable
from cri_dockerd_py.network.settle import settle_call

_STEP_WITHIN_S = 600.0
_ABORT_WITHIN_S = 10.0


async def write_nameless(
    client: ContainerdClient, ref: str, size: int, chunks: AsyncIterator[bytes], lease: str
) -> str:
    """Write a blob of `size` bytes under the ingest `ref`, and return its digest; nothing is left of a failure."""
    dialogue = client.write_content(lease=lease)
    try:
        return await _write(dialogue, ref, size, chunks)
    except BaseException:
        await settle_call(_abort(client, ref), f"abort of ingest {ref}")
        raise
    finally:
        dialogue.close()


async def _write(dialogue: Dialogue, ref: str, size: int, chunks: AsyncIterator[bytes]) -> str:
    await _ask(dialogue, WriteContentRequest(action=STAT, ref=ref, total=size))
    digest = hashlib.sha256()
    offset = 0
    async for chunk in chunks:
        hashed = asyncio.ensure_future(asyncio.to_thread(digest.update, chunk))
        try:
            await _ask(dialogue, WriteContentRequest(action=WRITE, ref=ref, offset=offset, data=chunk))
        finally:
            await hashed
        offset += len(chunk)
    name = f"sha256:{digest.hexdigest()}"
    with contextlib.suppress(AlreadyExists):
        await _ask(dialogue, WriteContentRequest(action=COMMIT, ref=ref, total=size, expected=name, offset=offset))
    return name


async def _ask(dialogue: Dialogue, request: WriteContentRequest) -> None:
    try:
        async with asyncio.timeout(_STEP_WITHIN_S):
            await dialogue.send(request)
            if await dialogue.receive() is None:
                raise Unavailable(f"containerd ended the writing of {request.ref} without a word")
    except TimeoutError:
        raise Unavailable(f"containerd did not take {request.ref} within {_STEP_WITHIN_S:g} s") from None


async def _abort(client: ContainerdClient, ref: str) -> None:
    with contextlib.suppress(CriError):
        await client.call(client.content.Abort, AbortRequest(ref=ref), within_s=_ABORT_WITHIN_S)
