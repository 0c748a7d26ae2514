"""Traces: kubelet's go on to engines and plugins; nothing is loaded when off, nothing hangs without a collector."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py.daemon.tracing import Tracer
from tests.cri_server import PROGRAM, CriServer
from tests.engines import RealEngine
from tests.otlp import Collector, attributes, collector

KUBELETS_SPAN = "00f067aa0ba902b7"
RPC = "runtime.v1.RuntimeService"


@pytest.fixture
def otlp() -> Iterator[Collector]:
    """A collector."""
    with collector() as served:
        yield served


def caller(trace_id: str, *, sampled: bool = True) -> tuple[tuple[str, str], ...]:
    """Return the metadata by which kubelet names its trace."""
    return (("traceparent", f"00-{trace_id}-{KUBELETS_SPAN}-{'01' if sampled else '00'}"),)


@pytest.mark.engine
def test_kubelets_trace_goes_on_to_the_engine_and_the_plugins(
    engine: RealEngine, otlp: Collector, start_server: Callable[[RealEngine, Sequence[str]], CriServer]
) -> None:
    """A failed call has its status and cause; a caller that does not sample, or has no trace, gets no spans."""
    ran, failed, quiet = (letter * 32 for letter in "abc")
    server = start_server(engine.for_another_service(), [f"--tracing-endpoint={otlp.endpoint}"])
    client = server.client()
    request = cri.RunPodSandboxRequest(config=client.sandbox_config())
    pod_id = client.runtime.RunPodSandbox(request, metadata=caller(ran), timeout=60).pod_sandbox_id
    missing = cri.PodSandboxStatusRequest(pod_sandbox_id="missing")
    with pytest.raises(grpc.RpcError):
        client.runtime.PodSandboxStatus(missing, metadata=caller(failed), timeout=60)
    client.runtime.Version(cri.VersionRequest(), metadata=caller(quiet, sampled=False), timeout=60)
    client.remove_pod(pod_id)
    client.close()

    assert server.stop() == 0

    [root] = [span for span in otlp.spans(ran) if span.kind == Span.SPAN_KIND_SERVER]
    below = [span for span in otlp.spans(ran) if span is not root]
    assert (root.name, root.parent_span_id.hex()) == (f"{RPC}/RunPodSandbox", KUBELETS_SPAN)
    assert attributes(root)["rpc.grpc.status_code"] == 0
    assert {span.parent_span_id for span in below} == {root.span_id}
    assert any(span.name.startswith("CNI ADD ") for span in below)
    assert any(attributes(span).get("engine") == engine.kind for span in below)
    assert all(root.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano for span in below)
    [refused] = otlp.spans(failed)
    assert attributes(refused)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert (refused.status.code, "missing" in refused.status.message) == (Status.STATUS_CODE_ERROR, True)
    assert {span.trace_id.hex() for span in otlp.spans()} == {ran, failed}
    assert attributes(otlp.resources[0])["service.name"] == "cri-dockerd-py"


@pytest.mark.parametrize(("per_million", "spans"), [(1_000_000, ["RPC", "pull"]), (0, [])])
async def test_callers_without_a_trace_are_sampled_at_the_rate(
    otlp: Collector, per_million: int, spans: list[str]
) -> None:
    """What happens outside of a call is in no trace; secrets of causes are not told."""
    tracer = Tracer(f"http://{otlp.endpoint}", per_million, "1")
    tracer.ended("background", 1.0, ok=True)
    with tracer.rpc("a.B/RPC", (), "id-1") as fail:
        tracer.ended("pull", 0.5, ok=False, engine="docker")
        fail(grpc.StatusCode.UNAVAILABLE, "https://user:hunter2@registry.example is away")

    await tracer.close()

    assert sorted(span.name.removeprefix("a.B/") for span in otlp.spans()) == spans
    assert not any("hunter2" in span.status.message for span in otlp.spans())
    assert {span.status.code for span in otlp.spans()} <= {Status.STATUS_CODE_ERROR}


async def test_a_collector_that_is_away_does_not_hold_up_the_end() -> None:
    """What cannot be sent is dropped after the time for one export."""
    tracer = Tracer("127.0.0.1:9", 1_000_000, "1")
    with tracer.rpc("a.B/RPC", (), "id-1"):
        pass
    began = time.monotonic()

    await tracer.close()

    assert time.monotonic() - began < 20


def test_without_the_extra_the_start_says_how_to_get_it(tmp_path: Path) -> None:
    """The error names the command."""
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError('none', name='opentelemetry')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    flags = [f"--root-dir={tmp_path}/root", f"--state-dir={tmp_path}/state", "--tracing-endpoint=127.0.0.1:4317"]

    ended = subprocess.run(
        [PROGRAM, "serve", *flags], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    assert re.search(r"opentelemetry is not installed: pip install 'cri-dockerd-py\[otel\]'", ended.stderr)


def test_nothing_of_it_is_loaded_when_off() -> None:
    """Neither with the service's modules, nor by asking for a tracer without an endpoint."""
    code = (
        "import sys, cri_dockerd_py.daemon; from cri_dockerd_py.daemon.tracing_wiring import tracer_for; "
        "from cri_dockerd_py.settings import Settings; assert tracer_for(Settings()) is None; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "grpc" in loaded
    assert not [name for name in loaded if name.startswith("opentelemetry")]
