"""The streaming server, joined to core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cri_dockerd_py.core.assembly import Core
from cri_dockerd_py.core.sessions import SessionUrls
from cri_dockerd_py.errors import Unimplemented
from cri_dockerd_py.metrics.registry import ServiceMetrics
from cri_dockerd_py.settings import Settings


class _NoSessions:
    def exec_url(
        self, container_id: str, command: tuple[str, ...], tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        raise Unimplemented("exec sessions are not served yet; use ExecSync")

    def attach_url(self, container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        raise Unimplemented("attach sessions are not served yet")

    def port_forward_url(self, sandbox_id: str, ports: tuple[int, ...]) -> str:
        raise Unimplemented("port-forward sessions are not served yet")


@asynccontextmanager
async def session_server(settings: Settings, core: Core, metrics: ServiceMetrics) -> AsyncIterator[SessionUrls]:
    """Serve sessions for as long as the context lasts."""
    yield _NoSessions()
