"""An OTLP collector that keeps the spans it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc, unused-ignore]
    """Serves OTLP's trace service at `endpoint` (host:port)."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.resources: list[Resource] = []
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Keep what comes."""
        with self._lock:
            for part in request.resource_spans:
                self.resources.append(part.resource)
                for scope in part.scope_spans:
                    self._spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, trace_id: str = "") -> list[Span]:
        """Return the spans of a trace, or of all."""
        with self._lock:
            return [span for span in self._spans if trace_id in ("", span.trace_id.hex())]


@contextmanager
def collector() -> Iterator[Collector]:
    """Serve a collector on a port of its own."""
    served = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(served, server)
    served.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield served
    finally:
        server.stop(None).wait()


def attributes(span: Span | Resource) -> dict[str, str | int]:
    """Return the attributes that are texts or numbers."""
    found = {one.key: one.value for one in span.attributes}
    return {key: value.string_value or value.int_value for key, value in found.items()}
