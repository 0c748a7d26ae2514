"""Streaming sessions of the soak: what comes of them, or that they broke off."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.behaviour.test_sessions import PROTOCOL, Received, session

_WITHIN_S = 40.0
#: What a session may end with when its engine or the service dies.
BROKEN = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


def executed(url: str) -> Received:
    """Return all that came of an exec session."""
    return asyncio.run(session(url))


def forwarded(url: str, port: int, request: bytes, until: bytes) -> bytes:
    """Send a request to a forwarded port and return the answer up to `until`, or to the session's end."""
    return asyncio.run(_forwarded(url, port, request, until))


async def _forwarded(url: str, port: int, request: bytes, until: bytes) -> bytes:
    answer = bytearray()
    async with (
        asyncio.timeout(_WITHIN_S),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}?port={port}", protocols=[PROTOCOL]) as socket,
    ):
        await socket.send_bytes(b"\0" + request)
        async for frame in socket:
            if frame.type == aiohttp.WSMsgType.BINARY and frame.data[0] == 0:
                answer += frame.data[1:]
            if until in answer:
                break
    return bytes(answer[2:])
