"""A registry in this process: it keeps content, demands logins, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from cri_dockerd_py.distribution.descriptor import digest_of

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, list[str]]

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")


@dataclass(slots=True)
class FakeRegistry:
    """`documents` and `blobs` are what it has; `instead` answers for a path (without its query) as long as it is there.

    `basic` ("user:password") or `token` is demanded when set; `token_for` says for which form, query and Authorization
    a token is given.
    """

    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    instead: dict[str, Answer] = field(default_factory=dict)
    basic: str = ""
    tokens: list[str] = field(default_factory=list)
    token_gate: Callable[[Asked], bool] = lambda asked: True
    token_methods: tuple[str, ...] = ("GET", "POST")
    challenge_extra: str = ""
    realm: str = ""
    ranges: bool = True
    asked: list[Asked] = field(default_factory=list)
    address: str = ""
    scheme: str = "http"

    def put_blob(self, content: bytes) -> str:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def put_document(self, media_type: str, document: object, *tags: str) -> dict[str, Any]:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = digest_of(content)
        for name in (digest, *tags):
            self.documents[name] = (media_type, content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def paths(self, method: str = "GET") -> list[str]:
        """Return the last parts of what was asked, in order."""
        return [asked.path.rpartition("/")[2] for asked in self.asked if asked.method == method]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        form = parse_qs((await request.read()).decode()) if request.method == "POST" else {}
        asked = Asked(request.method, request.path, dict(request.query), dict(request.headers), form)
        self.asked.append(asked)
        if request.path in self.instead:
            return await self.instead[request.path](request)
        if request.path == "/token":
            return self._token(asked, request)
        refusal = self._refusal(asked)
        return refusal or self._content(request)

    def _refusal(self, asked: Asked) -> web.Response | None:
        if self.basic and asked.authorization != "Basic " + base64.b64encode(self.basic.encode()).decode():
            return self._demand('Basic realm="fake"')
        if self.tokens and asked.authorization != f"Bearer {self.tokens[-1]}":
            realm = self.realm or f"{self.scheme}://{self.address}/token"
            return self._demand(f'Bearer realm="{realm}",service="fake"{self.challenge_extra}')
        return None

    def _demand(self, challenge: str) -> web.Response:
        body = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
        return web.json_response(body, status=401, headers={"WWW-Authenticate": challenge})

    def _token(self, asked: Asked, request: web.BaseRequest) -> web.Response:
        if asked.method not in self.token_methods:
            return web.Response(status=405)
        if not self.token_gate(asked):
            return web.json_response({"errors": [{"code": "UNAUTHORIZED", "message": "no token for you"}]}, status=401)
        return web.json_response({"access_token": self.tokens[-1], "expires_in": 300})

    def _content(self, request: web.BaseRequest) -> web.StreamResponse:
        _, kind, name = request.path.rsplit("/", 2)
        if kind == "manifests" and name in self.documents:
            media_type, content = self.documents[name]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(content)}
            return web.Response(body=content, headers=headers)
        if kind == "blobs" and name in self.blobs:
            return self._blob(request, self.blobs[name])
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}, status=404)

    def _blob(self, request: web.BaseRequest, content: bytes) -> web.Response:
        wanted = request.headers.get("Range", "")
        if not wanted or not self.ranges:
            return web.Response(body=content)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return web.Response(status=206, body=content[start:], headers=headers)


@asynccontextmanager
async def serving(
    registry: FakeRegistry | None = None, context: ssl.SSLContext | None = None
) -> AsyncIterator[FakeRegistry]:
    """Serve on a loopback port until the end of the block."""
    registry = registry or FakeRegistry()
    runner = web.ServerRunner(web.Server(registry.handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
    registry.scheme = "https" if context else "http"
    try:
        yield registry
    finally:
        await runner.cleanup()


def cut(content: bytes, after: int, times: int = 1) -> Answer:
    """Return an answer that breaks off after so many bytes (from where the range begins), `times` times."""
    left = [times]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        wanted = request.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        headers = {"Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        if left[0] <= 0:
            await response.write(content[start:])
            return response
        left[0] -= 1
        await response.write(content[start : start + after])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


class Hanging:
    """An answer that sends the beginning of a body and then nothing until its client goes away."""

    def __init__(self, content: bytes, after: int) -> None:
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()
        self._content = content
        self._after = after

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(self._content))})
        await response.prepare(request)
        await response.write(self._content[: self._after])
        self.begun.set()
        try:
            async with asyncio.timeout(20):
                await asyncio.Event().wait()
        finally:
            self.gone.set()
        return response


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Return an answer with this status."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=code, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer
