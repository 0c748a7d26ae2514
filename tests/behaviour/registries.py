"""Registries for tests: pushing images without an engine, and a registry that demands credentials or hangs."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cri_dockerd_py.pause.archive import DOCKER_MANIFEST_TYPE, BuiltImage, digest


def push(address: str, repository: str, tag: str, image: BuiltImage) -> str:
    """Push an image over plain HTTP and return its reference by tag."""
    connection = http.client.HTTPConnection(address, timeout=30)
    for content, content_digest in ((image.layer, image.layer_digest), (image.config, image.config_digest)):
        if _request(connection, "HEAD", f"/v2/{repository}/blobs/{content_digest}").status == 200:
            continue
        location = _request(connection, "POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        target = urlsplit(location)
        query = f"{target.query}&digest={content_digest}" if target.query else f"digest={content_digest}"
        _request(connection, "PUT", f"{target.path}?{query}", content, "application/octet-stream", expect=201)
    manifest = image.manifest()
    kind = str(json.loads(manifest)["mediaType"])
    _request(connection, "PUT", f"/v2/{repository}/manifests/{tag}", manifest, kind, expect=201)
    connection.close()
    return f"{address}/{repository}:{tag}"


def by_digest(address: str, repository: str, image: BuiltImage) -> str:
    """Return the reference of a pushed image by digest."""
    return f"{address}/{repository}@{digest(image.manifest())}"


def _request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    content_type: str = "",
    expect: int = 0,
) -> http.client.HTTPResponse:
    connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
    response = connection.getresponse()
    text = response.read()
    if expect and response.status != expect:
        raise RuntimeError(f"{method} {path}: {response.status} {text!r}")
    return response


@dataclass(slots=True)
class Demands:
    """What a registry asks of its clients: one of the ways to log in, or nothing."""

    basic: str = ""  # "user:password"
    token_basic: str = ""  # "user:password" at the token server
    refresh_token: str = ""  # what identity_token must be
    bearer: str = ""  # what registry_token must be, or what the token server gives out
    stall_at_bytes: int = -1  # of the layer: send so many, then nothing
    trickle: bool = False  # after that, send a byte now and then
    broken: bool = False  # answer everything with 500


@dataclass(slots=True)
class Seen:
    """What a registry saw."""

    authorizations: list[str] = field(default_factory=list)
    blob_requests: int = 0
    stalled: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)  # a stalled client has closed its connection


class PickyRegistry:
    """A registry of one image on a loopback port."""

    def __init__(self, image: BuiltImage, demands: Demands) -> None:
        self.image = image
        self.demands = demands
        self.seen = Seen()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, name="picky registry", daemon=True)

    def reference(self, repository: str = "picky/image", tag: str = "1") -> str:
        """Return the image's reference here."""
        return f"{self.address}/{repository}:{tag}"

    def __enter__(self) -> PickyRegistry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_end(self, seconds: float) -> bool:
        """Wait for the end of this registry."""
        return self._ending.wait(seconds)

    def challenge(self) -> str:
        """Return the WWW-Authenticate header of what is demanded, or nothing."""
        if self.demands.basic:
            return 'Basic realm="picky"'
        if self.demands.bearer:
            return f'Bearer realm="http://{self.address}/token",service="picky",scope="repository:picky/image:pull"'
        return ""

    def lets_in(self, authorization: str) -> bool:
        """Say whether a request with this Authorization header may go on."""
        if self.demands.basic:
            return authorization == _basic(self.demands.basic)
        return not self.demands.bearer or authorization == f"Bearer {self.demands.bearer}"

    def gives_token(self, authorization: str, form: dict[str, list[str]]) -> bool:
        """Say whether the token server accepts these credentials."""
        if self.demands.token_basic:
            user, _, password = self.demands.token_basic.partition(":")
            in_form = form.get("username") == [user] and form.get("password") == [password]
            return in_form or authorization == _basic(self.demands.token_basic)
        return bool(self.demands.refresh_token) and form.get("refresh_token") == [self.demands.refresh_token]


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def _handler(registry: PickyRegistry) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            """Answer a TLS greeting as Go's servers do: clients then know that this is plain HTTP."""
            if self.rfile.peek(1)[:1] == b"\x16":  # type: ignore[attr-defined]
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n")
                self.close_connection = True
                return
            super().handle_one_request()

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self) -> None:
            authorization = self.headers.get("Authorization", "")
            path = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if authorization:
                registry.seen.authorizations.append(authorization)
            if registry.demands.broken:
                return self._send(500, b"broken on purpose")
            if path.path == "/token":
                given = registry.gives_token(authorization, parse_qs(body or path.query))
                return self._token() if given else self._send(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
            if not registry.lets_in(authorization):
                error = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
                return self._send(401, error, {"WWW-Authenticate": registry.challenge()})
            return self._content(path.path)

        def _token(self) -> None:
            token = {"token": registry.demands.bearer, "access_token": registry.demands.bearer, "expires_in": 300}
            self._send(200, json.dumps(token).encode())

        def _content(self, path: str) -> None:
            manifest = registry.image.manifest()
            contents = {
                "/v2/": (b"{}", "application/json"),
                f"/v2/picky/image/manifests/{digest(manifest)}": (manifest, DOCKER_MANIFEST_TYPE),
                "/v2/picky/image/manifests/1": (manifest, DOCKER_MANIFEST_TYPE),
                f"/v2/picky/image/blobs/{registry.image.config_digest}": (registry.image.config, "application/json"),
                f"/v2/picky/image/blobs/{registry.image.layer_digest}": (registry.image.layer, "application/x-tar"),
            }
            if path not in contents:
                return self._send(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
            content, content_type = contents[path]
            if "/blobs/" in path:
                registry.seen.blob_requests += 1
            headers = {"Content-Type": content_type}
            if "/manifests/" in path:
                headers["Docker-Content-Digest"] = digest(manifest)
            if path.endswith(registry.image.layer_digest) and registry.demands.stall_at_bytes >= 0:
                return self._stall(content, headers)
            return self._send(200, content, headers)

        def _stall(self, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: registry.demands.stall_at_bytes])
            self.wfile.flush()
            registry.seen.stalled.set()
            self.close_connection = True
            self.connection.settimeout(0.1)
            rest = iter(content[registry.demands.stall_at_bytes :])
            while not registry.wait_end(0.0):
                try:
                    if registry.demands.trickle:
                        self.wfile.write(bytes([next(rest)]))
                    if not self.connection.recv(1):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            registry.seen.gone.set()

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
