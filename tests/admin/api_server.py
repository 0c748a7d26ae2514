"""The part of a Kubernetes API server that a node's agent uses, with the state that it leaves there."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "agent-token"


class FakeApiServer:
    """Lists pods, keeps annotations of nodes and events; used as a context."""

    def __init__(self, pods: list[dict[str, Any]]) -> None:
        self.pods = pods
        self.annotations: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.refused = 0
        self.says = b""  # in the place of every answer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port

    def __enter__(self) -> FakeApiServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1"
                self._answer({"kind": "PodList", "items": api.pods})

            def do_PATCH(self) -> None:
                assert self.path == "/api/v1/nodes/node-1"
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                api.annotations |= self._body()["metadata"]["annotations"]
                self._answer({})

            def do_POST(self) -> None:
                assert self.path == "/api/v1/namespaces/default/events"
                api.events.append(self._body())
                self._answer({}, 201)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def _body(self) -> Any:
                return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, document: object, status: int = 200) -> None:
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    api.refused += 1
                    status = 401
                body = api.says or json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler
