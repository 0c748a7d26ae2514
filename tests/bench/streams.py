"""What sessions carry: bytes of an exec's output, and of a forwarded connection, as a client on this machine gets them.

The client opens a session as client-go does, and from then on only counts what arrives, so that it costs little.
"""

from __future__ import annotations

import asyncio
import time

from tests.behaviour.client import Container
from tests.bench.measures import Figures, take_down
from tests.bench.side import Side
from tests.streaming.client import V4, SpdyClient, TcpWire, WebSocketClient

SESSION_BYTES = 512_000_000
_BLOCK_BYTES = 64_000
_DATA = f"dd if=/dev/zero bs={_BLOCK_BYTES} count={SESSION_BYTES // _BLOCK_BYTES} 2>/dev/null"
_PORT = 8080


def session_throughput(side: Side) -> Figures:
    """Let a container print through an exec, over SPDY and WebSocket, and send through a forwarded connection."""
    container = side.cri.run_pod().start("nc", "-ll", "-p", str(_PORT), "-e", "sh", "-c", _DATA)
    try:
        return {
            "exec, MB/s": asyncio.run(_exec_over_spdy(side, container)),
            "exec over WebSocket, MB/s": asyncio.run(_exec_over_websocket(side, container)),
            "port-forward, MB/s": asyncio.run(_forwarded(side, container)),
        }
    finally:
        take_down(container)


async def _exec_over_spdy(side: Side, container: Container) -> float:
    client = await SpdyClient.open(_exec_url(side, container), "v4.channel.k8s.io")
    began = time.monotonic()
    await client.create_all("error", "stdout")
    return await _rest(client, began)


async def _exec_over_websocket(side: Side, container: Container) -> float:
    began = time.monotonic()
    client = await WebSocketClient.open(_exec_url(side, container), V4)
    return await _drained(client.wire, SESSION_BYTES, began)


async def _forwarded(side: Side, container: Container) -> float:
    url = side.cri("PortForward", pod_sandbox_id=container.pod.id, port=[_PORT]).url
    client = await SpdyClient.open(url, "portforward.k8s.io")
    began = time.monotonic()
    await client.pair(_PORT, 0)
    return await _rest(client, began)


def _exec_url(side: Side, container: Container) -> str:
    answer = side.cri("Exec", container_id=container.id, cmd=["sh", "-c", _DATA], stdout=True)
    return str(answer.url)


async def _rest(client: SpdyClient, began: float) -> float:
    """Take over from the client, which would look into every frame."""
    assert isinstance(client.wire, TcpWire)
    wire, seen = client.wire, await client.let_go()
    return await _drained(wire, SESSION_BYTES - seen, began)


async def _drained(wire: TcpWire, missing: int, began: float) -> float:
    """Read until all that was sent has arrived; frames' heads make it end some kB early. Return MB/s."""
    while missing > 0:
        data = await wire.read()
        assert data, f"the connection ended {missing} bytes early"
        missing -= len(data)
    rate = SESSION_BYTES / 1e6 / (time.monotonic() - began)
    await wire.close()
    return rate
