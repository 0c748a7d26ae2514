"""HTTP: /metrics for Prometheus and /healthz for whoever watches the service."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from cri_dockerd_py.errors import FailedPrecondition

_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
_SHUTDOWN_S = 1.0


class MetricsEndpoint:
    """Serves `page` and the answer of `unhealthy`: a reason, or "" when all is well."""

    def __init__(self, page: Callable[[], bytes], unhealthy: Callable[[], str] = str) -> None:
        self._page = page
        self._unhealthy = unhealthy
        self._runner: web.AppRunner | None = None

    async def start(self, bind_address: str) -> tuple[str, int]:
        """Listen on `host:port` (port 0: any free one; an empty host: all addresses); return where."""
        host, port = parse_bind_address(bind_address)
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, host or None, port).start()
        except OSError as cause:
            await self.close()
            raise FailedPrecondition(
                f"metrics cannot be served at {bind_address}: {cause}; choose another metrics-bind-addr"
            ) from cause
        bound_host, bound_port = runner.addresses[0][:2]
        return str(bound_host), int(bound_port)

    async def close(self) -> None:
        """Stop listening; may be called twice."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page(), headers={"Content-Type": _TEXT_FORMAT})

    async def _healthz(self, _request: web.Request) -> web.Response:
        reason = self._unhealthy()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)


def parse_bind_address(bind_address: str) -> tuple[str, int]:
    """Split `host:port`, with the host of an IPv6 address in brackets."""
    host, colon, port = bind_address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise FailedPrecondition(f"metrics-bind-addr {bind_address!r} is not host:port, such as 127.0.0.1:9580")
    return host.removeprefix("[").removesuffix("]"), int(port)
