"""Just enough of an API server for kubectl exec, attach, cp and port-forward; proxies upgrades as kubelet does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

_READ_BYTES = 65536


class SessionUrls(Protocol):
    """Where the URLs come from: a streaming server, or a CRI service in front of one."""

    async def exec(
        self, container: str, command: tuple[str, ...], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str: ...
    async def attach(self, container: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str: ...
    async def port_forward(self) -> str: ...


@dataclass(frozen=True)
class Request:
    """A request's head."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: list[tuple[str, str]]

    def header(self, name: str) -> str:
        return ", ".join(value for known, value in self.headers if known.lower() == name)

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0] == "true"


@dataclass
class ApiServer:
    """Serves the pod `web` with the container `c1`; `refuse_websocket` makes kubectl fall back to SPDY."""

    urls: SessionUrls
    container_tty: bool = False
    refuse_websocket: bool = False
    upgrades: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _jobs: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> str:
        """Listen; returns the server's URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close the listener and all connections."""
        assert self._server is not None
        self._server.close()
        for job in list(self._jobs):
            job.cancel()
        if self._jobs:
            await asyncio.wait(list(self._jobs))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.current_task()
        assert job is not None
        self._jobs.add(job)
        try:
            await self._serve_requests(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._jobs.discard(job)
            writer.close()

    async def _serve_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = _parse((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            if request.header("upgrade"):
                await self._upgrade(request, reader, writer)
                return
            body = self._answer(request.path)
            status = "200 OK" if body is not None else "404 Not Found"
            _write_json(
                writer, status, body or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
            )
            await writer.drain()

    def _answer(self, path: str) -> dict[str, object] | None:
        match path:
            case "/version":
                return {"major": "1", "minor": "30", "gitVersion": "v1.30.0"}
            case "/api":
                return {"kind": "APIVersions", "versions": ["v1"]}
            case "/apis":
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
            case "/api/v1":
                pods = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod"}
                pods |= {"verbs": ["get", "list"], "shortNames": ["po"]}
                return {"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]}
            case "/api/v1/namespaces/default/pods/web":
                container = {"name": "c1", "image": "x", "stdin": True, "tty": self.container_tty}
                metadata = {"name": "web", "namespace": "default", "uid": "u1"}
                status = {"phase": "Running", "containerStatuses": [{"name": "c1", "ready": True}]}
                return {
                    "kind": "Pod",
                    "apiVersion": "v1",
                    "metadata": metadata,
                    "spec": {"containers": [container]},
                } | {"status": status}
        return None

    async def _upgrade(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = request.header("upgrade").lower()
        protocol = request.header("sec-websocket-protocol") or request.header("x-stream-protocol-version")
        if kind == "websocket" and self.refuse_websocket:
            _write_json(writer, "400 Bad Request", {"kind": "Status", "status": "Failure", "message": "no WebSocket"})
            await writer.drain()
            return
        self.upgrades.append(f"{kind} {protocol}")
        await _proxy(await self._url(request), request, reader, writer)

    async def _url(self, request: Request) -> str:
        tty, stdin = request.flag("tty"), request.flag("stdin")
        flags = {"stdout": request.flag("stdout"), "stderr": request.flag("stderr") and not tty}
        verb = request.path.rpartition("/")[2]
        if verb == "exec":
            return await self.urls.exec("c1", tuple(request.query["command"]), tty=tty, stdin=stdin, **flags)
        if verb == "attach":
            return await self.urls.attach("c1", tty=tty, stdin=stdin, **flags)
        assert verb == "portforward", request
        return await self.urls.port_forward()


def _parse(head: str) -> Request:
    request_line, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = request_line.split(" ")
    parts = urlsplit(target)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Request(method, parts.path, parse_qs(parts.query, keep_blank_values=True), headers)


def _write_json(writer: asyncio.StreamWriter, status: str, body: dict[str, object]) -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


async def _proxy(url: str, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes both ways; the end of one direction is the end of both, as in kubelet."""
    parts = urlsplit(url)
    upstream_reader, upstream_writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = [f"{request.method} {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers)]
    upstream_writer.write("\r\n".join((*lines, "X-Forwarded-For: 127.0.0.1", "", "")).encode("latin-1"))
    copies = {
        asyncio.ensure_future(_copy(reader, upstream_writer)),
        asyncio.ensure_future(_copy(upstream_reader, writer)),
    }
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.wait(copies)
        upstream_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
