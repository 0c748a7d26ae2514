"""The streaming server, joined to core."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.core.execution import Execution
from cri_dockerd_py.metrics.endpoint import parse_bind_address
from cri_dockerd_py.metrics.registry import ServiceMetrics
from cri_dockerd_py.settings import Settings
from cri_dockerd_py.streaming.netns_dial import NetnsDialer
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.process import Openers
from cri_dockerd_py.streaming.server import SessionObserver, StreamingServer
from cri_dockerd_py.streaming.sessions import KINDS

_ALL_ADDRESSES = "0.0.0.0:0"


@asynccontextmanager
async def session_server(settings: Settings, core: Core, metrics: ServiceMetrics) -> AsyncIterator[StreamingServer]:
    """Serve sessions for as long as the context lasts."""
    address, port = parse_bind_address(settings.streaming_bind_addr or _ALL_ADDRESSES)
    options = StreamingOptions(
        address=address,
        port=port,
        tls_cert_file=str(settings.streaming_tls_cert_file),
        tls_key_file=str(settings.streaming_tls_key_file),
    )
    ports = PodPorts(core.execution)
    openers = Openers(core.execution.open_exec, core.execution.open_attach, ports.open)
    server = StreamingServer(options, openers, _observer(metrics))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _observer(metrics: ServiceMetrics) -> SessionObserver:
    def begun(kind: str) -> None:
        metrics.streaming_started.labels(kind).inc()
        metrics.streaming_sessions.labels(kind).inc()

    def ended(kind: str, received_bytes: int, sent_bytes: int) -> None:
        metrics.streaming_sessions.labels(kind).dec()
        metrics.streaming_bytes.labels(kind, "received").inc(received_bytes)
        metrics.streaming_bytes.labels(kind, "sent").inc(sent_bytes)

    for kind in KINDS.values():  # from 0 on, so that a rate sees the first session
        metrics.streaming_sessions.labels(kind)
        metrics.streaming_started.labels(kind)
        metrics.streaming_bytes.labels(kind, "received")
        metrics.streaming_bytes.labels(kind, "sent")
    return SessionObserver(begun, ended)


class PodPorts:
    """Opens sockets to ports of pods, from inside their network namespaces."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._dialer = NetnsDialer()

    async def open(self, sandbox_id: str, port: int) -> socket.socket:
        """Return a connected socket; pods on the node's network are dialled from here."""
        record = self._execution.ready_sandbox(sandbox_id)
        netns_path = "" if record.spec.host_network else record.netns_path or f"/proc/{record.pid}/ns/net"
        return await self._dialer.dial(netns_path, port)
