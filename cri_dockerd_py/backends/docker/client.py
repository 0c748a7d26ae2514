"""HTTP with Docker Engine: versioned calls with a deadline each, on one pool of connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from aiodocker import Docker
from yarl import URL

from cri_dockerd_py.backends.docker.answers import LOST, read_body, read_objects
from cri_dockerd_py.backends.docker.api_errors import error_for, is_version_refusal
from cri_dockerd_py.backends.docker.hijack import Endpoint, HijackedConnection, open_hijacked
from cri_dockerd_py.errors import OK, CriError, FailedPrecondition, Unavailable, failure_of, outcome_of

#: The newest API that this service was written for.
NEWEST_API = (1, 51)
OLDEST_API = (1, 41)
_CONNECTIONS = 256
_KEEP_ALIVE_S = 60.0
_PING_WITHIN_S = 3.0
_REFUSED = (aiohttp.ClientConnectorError, ConnectionRefusedError, FileNotFoundError)
_OK = frozenset({200, 201, 202, 204, 304})
_JSON_HEADERS = {"Content-Type": "application/json"}

Params = Mapping[str, str]
Observer = Callable[[str, float, str], None]
Version = tuple[int, int]


def ignore(call: str, seconds: float, code: str) -> None:
    """Observe nothing."""


class DockerClient:
    """Makes calls; a call is a template such as `POST /containers/{}/start`, which metrics are named by.

    `observe(call, seconds, code)` hears of each one; codes are those of `outcome_of`. `refused` is set while the daemon
    takes no new connection: one that is ending still serves those that it has, and may kill what it starts.
    """

    def __init__(self, endpoint: str, *, call_within_s: float = 119.0, observe: Observer = ignore) -> None:
        self.api: Version = OLDEST_API
        self.negotiated = False
        self.refused = asyncio.Event()
        self._endpoint = Endpoint.parse(endpoint)
        self._within_s = call_within_s
        self._observe = observe
        self._docker: Docker | None = None

    # --- life

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        if self._docker is not None:
            connector = self._docker.connector
            await self._docker.close()
            await connector.close()
            self._docker = None

    async def ping(self) -> Version:
        """Return the newest API that the daemon and this service share; Unavailable when it does not answer soon.

        A daemon that takes no new connection does not answer, whatever it says on an old one.
        """
        with self._translated("GET /_ping", _PING_WITHIN_S):
            async with asyncio.timeout(_PING_WITHIN_S):
                await self._endpoint.knock()
        async with self._request("GET", "/_ping", "", None, {}, _PING_WITHIN_S) as response:
            text = response.headers.get("Api-Version", "")
            major, _, minor = text.partition(".")
            if response.status != 200 or not (major.isdecimal() and minor.isdecimal()):
                raise Unavailable(f"what listens at {self._endpoint} is no Docker Engine: its ping has no API version")
        return min(NEWEST_API, (int(major), int(minor)))

    async def negotiate(self) -> None:
        """Choose the API version anew: the daemon may have been replaced by another one."""
        api = await self.ping()
        if api < OLDEST_API:
            raise FailedPrecondition(
                f"Docker Engine at {self._endpoint} has API {api[0]}.{api[1]}; 1.41 or newer is needed (Engine 20.10)"
            )
        self.api = api
        self.negotiated = True
        self.refused.clear()

    async def daemon_pid(self) -> int:
        """Return the process that listens at the socket, 0 when that cannot be told."""
        try:
            async with asyncio.timeout(_PING_WITHIN_S):
                return await self._endpoint.peer_pid()
        except (TimeoutError, OSError):
            return 0

    # --- calls

    async def get(self, template: str, *names: str, params: Params | None = None, within_s: float | None = None) -> Any:
        """Return the JSON that a GET answers."""
        return await self._call("GET", template, names, params, None, within_s)

    async def post(
        self,
        template: str,
        *names: str,
        params: Params | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        within_s: float | None = None,
    ) -> Any:
        """Return the JSON that a POST answers, None when there is none; a `body` of bytes goes as it is."""
        return await self._call("POST", template, names, params, body, within_s, headers)

    async def delete(self, template: str, *names: str, params: Params | None = None) -> Any:
        """Return the JSON that a DELETE answers, None when there is none."""
        return await self._call("DELETE", template, names, params, None, None)

    async def upload(
        self, template: str, content: bytes | AsyncIterable[bytes], *, content_type: str, within_s: float
    ) -> None:
        """Make a POST with bytes as its body, whose answer is a stream of progress that is read to its end."""
        await self._ensure_negotiated()
        call = f"POST {template}"
        headers = {"Content-Type": content_type}
        async with self._request("POST", self._path(template, ()), call, None, headers, within_s, content) as response:
            if response.status not in _OK:
                raise error_for(call, response.status, await read_body(response, call))
            async for message in read_objects(response, call):
                if "errorDetail" in message or "error" in message:
                    raise failure_of(f"{call}: {message.get('error') or message['errorDetail']}")

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        template: str,
        *names: str,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a call whose answer is JSON objects without end; leaving the context drops the connection."""
        await self._ensure_negotiated()
        call = f"{method} {template}"
        path = self._path(template, names)
        async with self._request(method, path, call, params, dict(headers or {}), None) as response:
            if response.status not in _OK:
                raise error_for(call, response.status, await read_body(response, call))
            try:
                yield read_objects(response, call)
            finally:
                response.close()

    @contextlib.asynccontextmanager
    async def download(
        self, template: str, *names: str, params: Params | None = None, for_ever: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a GET whose answer is bytes; `for_ever` is for a reader that watches by itself whether they come."""
        await self._ensure_negotiated()
        call = f"GET {template}"
        within_s = None if for_ever else self._within_s
        async with self._request("GET", self._path(template, names), call, params, {}, within_s) as response:
            if response.status not in _OK:
                raise error_for(call, response.status, await read_body(response, call))
            try:
                yield response
            finally:
                response.close()

    async def hijack(
        self, template: str, *names: str, params: Params | None = None, body: object = None
    ) -> HijackedConnection:
        """Make a POST that turns its connection into a two-way byte stream."""
        await self._ensure_negotiated()
        call = f"POST {template}"
        path = self._path(template, names) + (f"?{urlencode(params)}" if params else "")
        content = b"" if body is None else json.dumps(body).encode()
        with self._observed(call, self._within_s):
            async with asyncio.timeout(self._within_s):
                return await open_hijacked(self._endpoint, path, content, call)

    async def _call(
        self,
        method: str,
        template: str,
        names: tuple[str, ...],
        params: Params | None,
        body: object,
        within_s: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        await self._ensure_negotiated()
        call = f"{method} {template}"
        all_headers = {**_JSON_HEADERS, **(headers or {})} if body is not None else dict(headers or {})
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            return await self._answer(method, call, self._path(template, names), params, all_headers, content, within_s)
        except CriError as error:
            if not is_version_refusal(error):
                raise
        await self.negotiate()
        return await self._answer(method, call, self._path(template, names), params, all_headers, content, within_s)

    async def _answer(
        self,
        method: str,
        call: str,
        path: str,
        params: Params | None,
        headers: dict[str, str],
        content: bytes | None,
        within_s: float | None,
    ) -> Any:
        within_s = self._within_s if within_s is None else within_s
        async with self._request(method, path, call, params, headers, within_s, content) as response:
            body = await read_body(response, call)
            if response.status not in _OK:
                raise error_for(call, response.status, body)
        if not body.strip():
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"Docker's answer to {call} is no JSON ({error}): {body[:200]!r}") from error

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        call: str,
        params: Params | None,
        headers: dict[str, str],
        within_s: float | None,
        content: bytes | AsyncIterable[bytes] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        query = f"?{urlencode(params)}" if params else ""
        url = URL(f"{self._endpoint.base_url}{path}{query}", encoded=True)
        call = call or f"{method} {path}"
        with self._observed(call, within_s):
            async with (
                asyncio.timeout(within_s),
                self._session.request(method, url, data=content, headers=headers, allow_redirects=False) as response,
            ):
                yield response

    @contextlib.contextmanager
    def _observed(self, call: str, within_s: float | None) -> Iterator[None]:
        """Translate what breaks a call off, and tell the observer how it ended."""
        began, code = time.monotonic(), OK
        try:
            with self._translated(call, within_s):
                yield
        except BaseException as error:
            code = outcome_of(error)
            raise
        finally:
            self._observe(call, time.monotonic() - began, code)

    @contextlib.contextmanager
    def _translated(self, call: str, within_s: float | None) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise self._too_slow(call, within_s) from None
        except LOST as error:
            if isinstance(error, _REFUSED):
                self.refused.set()
            raise self._lost(call, error) from error

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._docker is None:
            connector = self._endpoint.connector(_CONNECTIONS, _KEEP_ALIVE_S)
            self._docker = Docker(url=self._endpoint.base_url, connector=connector)
        return self._docker.session

    async def _ensure_negotiated(self) -> None:
        if not self.negotiated:
            await self.negotiate()

    def _path(self, template: str, names: tuple[str, ...]) -> str:
        """Return the path with `names` in it, quoted so that no text can become a path or a query of its own."""
        filled = template.format(*(quote(name, safe="") for name in names))
        return f"/v{self.api[0]}.{self.api[1]}{filled}"

    def _too_slow(self, call: str, within_s: float | None) -> Unavailable:
        return Unavailable(f"Docker at {self._endpoint} did not answer {call} within {within_s:g} s")

    def _lost(self, call: str, error: BaseException) -> Unavailable:
        return Unavailable(f"Docker at {self._endpoint} cannot be reached for {call}: {error or type(error).__name__}")
