"""Spans of OpenTelemetry, sent to an OTLP collector over gRPC; imported only where an endpoint is set."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cri_dockerd_py.daemon.log_lines import without_secrets

_EXPORT_WITHIN_S = 5.0
_NAME = "cri-dockerd-py"


class Tracer:
    """Makes spans: one for each RPC, in the trace of its caller, and below it what was done for it.

    A call whose caller does not say whether it is sampled is so with a chance of `per_million` in 1,000,000.
    """

    def __init__(self, endpoint: str, per_million: int, version: str) -> None:
        scheme, separator, _ = endpoint.partition("://")
        exporter = OTLPSpanExporter(
            endpoint=endpoint if separator else f"http://{endpoint}",
            insecure=scheme != "https",
            timeout=_EXPORT_WITHIN_S,
        )
        resource = Resource.create(
            {"service.name": _NAME, "service.version": version, "host.name": platform.node()},
        )
        sampler = ParentBased(TraceIdRatioBased(per_million / 1_000_000))
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_NAME, version)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def rpc(
        self, path: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str
    ) -> Iterator[Callable[[grpc.StatusCode, str], None]]:
        """Span a call of `service/method`; what it yields is told the status and the cause when the call fails."""
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        service, _, method = path.rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "request_id": request_id}
        with self._tracer.start_as_current_span(
            path,
            context=self._propagator.extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            code = grpc.StatusCode.OK

            def fail(status: grpc.StatusCode, cause: str) -> None:
                nonlocal code
                code = status
                span.set_status(trace.StatusCode.ERROR, without_secrets(cause))

            try:
                yield fail
            finally:
                span.set_attribute("rpc.grpc.status_code", code.value[0])

    def ended(self, name: str, seconds: float, ok: bool, **attributes: str) -> None:
        """Add a span of something that has just ended, below the call that it was done for; without one, nothing."""
        if not trace.get_current_span().is_recording():
            return
        now = time.time_ns()
        span = self._tracer.start_span(
            name, kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=now - int(seconds * 1e9)
        )
        if not ok:
            span.set_status(trace.StatusCode.ERROR)
        span.end(now)

    async def close(self) -> None:
        """Send what is left, for as long as one export may take."""
        await asyncio.to_thread(self._provider.shutdown)
