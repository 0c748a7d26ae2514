"""Docker's legacy log-driver plugin protocol: HTTP on a unix socket that dockerd finds by the driver's name."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from cri_dockerd_py.errors import CriError

logger = logging.getLogger(__name__)

_MEDIA_TYPE = "application/vnd.docker.plugins.v1.2+json"
_REQUEST_BYTES_MAX = 64 << 20  # the request repeats the container's environment and labels

Info = dict[str, Any]


class LogPlugin(Protocol):
    """What the HTTP side calls."""

    async def start_logging(self, fifo_path: str, info: Info) -> None:
        """Read this FIFO from now on."""
        ...

    async def stop_logging(self, fifo_path: str) -> None:
        """Return when everything in this FIFO is in the log."""
        ...

    def read_logs(self, info: Info, config: dict[str, Any]) -> AsyncIterator[bytes]:
        """The log of a container as frames."""
        ...


def make_app(plugin: LogPlugin) -> web.Application:
    """The plugin's endpoints."""
    app = web.Application(client_max_size=_REQUEST_BYTES_MAX)
    app.add_routes(
        [
            web.post("/Plugin.Activate", _constant({"Implements": ["LogDriver"]})),
            web.post("/LogDriver.Capabilities", _constant({"Cap": {"ReadLogs": True}, "Err": ""})),
            web.post(
                "/LogDriver.StartLogging", _command(lambda body: plugin.start_logging(body["File"], body["Info"]))
            ),
            web.post("/LogDriver.StopLogging", _command(lambda body: plugin.stop_logging(body["File"]))),
            web.post("/LogDriver.ReadLogs", _read(plugin)),
        ]
    )
    return app


Handler = Callable[[web.Request], Any]


def _reply(body: object) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), content_type=_MEDIA_TYPE)


def _constant(body: object) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return _reply(body)

    return handle


def _command(step: Callable[[Info], Awaitable[None]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read())
        except ValueError:
            # Docker repeats a call that broke off, as when this service is killed, with nothing in it.
            logger.warning("Docker sent %s without a readable body; what it wanted has to be tried again", request.path)
            return _reply({"Err": "log driver: the request has no readable body; try again"})
        try:
            await step(body)
        except CriError as error:
            return _reply({"Err": str(error)})
        except (OSError, KeyError, TypeError, ValueError) as error:
            logger.exception("the request %s failed", request.path)
            return _reply({"Err": f"log driver: {error!r}"})
        return _reply({"Err": ""})

    return handle


def _read(plugin: LogPlugin) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        response = web.StreamResponse(headers={"Content-Type": "application/x-json-stream"})
        await response.prepare(request)
        async for frames in plugin.read_logs(body["Info"], body.get("Config") or {}):
            await response.write(frames)
        await response.write_eof()
        return response

    return handle
