"""A registry of one image on a loopback port, for as long as a demo pulls from it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader

from cri_dockerd_py.pause.archive import (
    DOCKER_CONFIG_TYPE,
    DOCKER_LAYER_TYPE,
    DOCKER_MANIFEST_TYPE,
    BuiltImage,
    digest,
)

_TLS_HANDSHAKE = b"\x16"


@contextlib.contextmanager
def serve_image(image: BuiltImage, repository: str, tag: str) -> Iterator[str]:
    """Serve `image` while the block runs, and give the reference to pull it by."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(image, repository, tag))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="demo-registry")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}/{repository}:{tag}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(image: BuiltImage, repository: str, tag: str) -> type[BaseHTTPRequestHandler]:
    """Return a handler class that knows the four documents of the distribution protocol that a pull asks for."""
    manifest = image.manifest()
    base = f"/v2/{repository}"
    documents = {
        "/v2/": (b"{}", "application/json"),
        f"{base}/manifests/{tag}": (manifest, DOCKER_MANIFEST_TYPE),
        f"{base}/manifests/{digest(manifest)}": (manifest, DOCKER_MANIFEST_TYPE),
        f"{base}/blobs/{image.config_digest}": (image.config, DOCKER_CONFIG_TYPE),
        f"{base}/blobs/{image.layer_digest}": (image.layer, DOCKER_LAYER_TYPE),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            """Tell clients that try TLS first, in words that they take for plain HTTP, to try that."""
            if isinstance(self.rfile, BufferedReader) and self.rfile.peek(1)[:1] == _TLS_HANDSHAKE:
                self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                self.close_connection = True
            else:
                super().handle_one_request()

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *arguments: object) -> None:
            """Keep standard error for the demo."""

        def _answer(self, with_body: bool) -> None:
            body, media_type = documents.get(self.path, (b"", ""))
            self.send_response(200 if media_type else 404)
            self.send_header("Content-Length", str(len(body)))
            if media_type:
                self.send_header("Content-Type", media_type)
                self.send_header("Docker-Content-Digest", digest(body))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    return Handler
