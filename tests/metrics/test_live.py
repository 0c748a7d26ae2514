"""What a service on a real engine shows at /metrics."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence

import grpc
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py.pause.archive import LayerFile, build_image
from tests.behaviour.registries import push
from tests.cri_server import CriClient, CriServer
from tests.engines import RealEngine, RegistryServer
from tests.processes import wait_until

_LAYER_BYTES = 3 << 20
#: Docker tells nothing of what comes faster into containerd's store.
_LONGER_BYTES = 96 << 20


class Page:
    """The metrics page of a service of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    def families(self) -> Mapping[str, Metric]:
        """Return what is shown now by name."""
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            text = answer.read().decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def sum(self, sample: str, **labels: str) -> float:
        """Return the sum of all samples of a name (without the service's prefix) that have these labels."""
        return sum(
            one.value
            for family in self.families().values()
            for one in family.samples
            if one.name == f"cri_dockerd_py_{sample}" and labels.items() <= one.labels.items()
        )


@pytest.fixture
def service(engine: RealEngine, start_server: Callable[[RealEngine, Sequence[str]], CriServer]) -> CriServer:
    return start_server(engine.for_another_service(), ["--metrics-bind-addr=127.0.0.1:0"])


@pytest.fixture
def page(service: CriServer) -> Page:
    """The page at the address that the service's log names."""
    (url,) = re.findall(r"metrics are served at (http://127\.0\.0\.1:\d+/metrics)", service.daemon.log.read_text())
    return Page(url)


@pytest.fixture
def own_client(service: CriServer) -> Iterator[CriClient]:
    client = service.client()
    yield client
    client.close()


def test_pulls_are_counted_in_bytes(
    engine_name: str, engine: RealEngine, own_client: CriClient, page: Page, registry: RegistryServer
) -> None:
    """All that is fetched, once: not what was there already."""
    size_bytes = _LONGER_BYTES if engine_name.endswith("-store") else _LAYER_BYTES
    image = build_image({"noise": LayerFile(os.urandom(size_bytes), 0o644)}, {})
    spec = cri.ImageSpec(image=push(registry.address, f"metrics-{engine.kind}", "one", image))
    try:
        own_client.images.PullImage(cri.PullImageRequest(image=spec), timeout=90)
        fetched = page.sum("image_pulled_bytes_total", engine=engine.kind)
        assert len(image.layer) <= fetched <= len(image.layer) + 16_000
        assert page.sum("image_pull_total", engine=engine.kind, code="OK") == 1

        own_client.images.PullImage(cri.PullImageRequest(image=spec), timeout=90)
        assert page.sum("image_pulled_bytes_total") - fetched < 16_000
        absent = cri.ImageSpec(image=f"{spec.image}-absent")
        with pytest.raises(grpc.RpcError, match=r"not found|unknown"):
            own_client.images.PullImage(cri.PullImageRequest(image=absent), timeout=90)
        assert page.sum("image_pull_total", engine=engine.kind, code="error") == 1
    finally:
        own_client.images.RemoveImage(cri.RemoveImageRequest(image=spec), timeout=90)


def test_a_pods_life_is_on_the_page(engine: RealEngine, own_client: CriClient, page: Page) -> None:
    """Calls, the engine, plugins, objects, events, logs and the loop."""
    pod_config = own_client.sandbox_config()
    pod_id = own_client.run_pod(pod_config)
    container_config = own_client.container_config("/bin/echo", "12345")
    container_id = own_client.start_container(pod_id, container_config, pod_config)
    try:
        own_client.wait_exited(container_id)
        wait_until(lambda: page.sum("log_lines_total", kind="written") == 1, "the line's count")

        assert page.sum("rpc_total", method="RunPodSandbox", code="OK") == 1
        assert page.sum("rpc_duration_seconds_count", method="RunPodSandbox") == 1
        assert page.sum("rpc_in_flight") == 0
        assert page.sum("engine_call_total", engine=engine.kind, code="OK") > 0
        assert page.sum("cni_call_total", command="ADD", code="OK") >= 1
        assert page.sum("objects", engine=engine.kind, kind="sandbox", state="READY") >= 1
        assert page.sum("objects", engine=engine.kind, kind="container", state="EXITED") >= 1
        assert page.sum("engine_ready", engine=engine.kind) == 1
        assert page.sum("event_lag_seconds_count", engine=engine.kind) > 0
        assert page.sum("resyncs_total", engine=engine.kind) >= 1
        assert page.sum("log_bytes_total", kind="written") > 5
        assert page.sum("loop_tasks") > 0
        wait_until(lambda: page.sum("loop_lag_seconds_count") > 0, "a look at the loop")
    finally:
        own_client.remove_pod(pod_id)
    assert page.sum("cni_call_total", command="DEL", code="OK") >= 1


def test_names_and_labels_follow_the_conventions(page: Page) -> None:
    """Counters end in _total, units are base units, and no label is free text."""
    families = page.families()
    assert {"resync_drift", "image_pulled_bytes", "streaming_sessions", "migration_pods", "log_events"} <= {
        name.removeprefix("cri_dockerd_py_") for name in families
    }
    kinds = {sample.labels["kind"] for sample in families["cri_dockerd_py_streaming_bytes"].samples}
    assert kinds == {"exec", "attach", "portforward"}, "the first session has to be seen by a rate"
    assert families["cri_dockerd_py_image_pulled_bytes"].samples, "so has the first pull"
    pulls = {sample.labels["code"] for sample in families["cri_dockerd_py_image_pull"].samples}
    assert pulls == {"OK", "error"}, "and the first that fails"
    states = {sample.labels["state"] for sample in families["cri_dockerd_py_objects"].samples}
    assert states >= {"READY", "NOTREADY", "CREATED", "RUNNING", "EXITED"}, "what is not there is 0"
    allowed = {"engine", "kind", "state", "method", "code", "operation", "plugin", "command", "direction", "what"}
    for family in families.values():
        assert not family.name.endswith(("_ms", "_milliseconds", "_kb", "_mb"))
        for sample in family.samples:
            if family.name.startswith("cri_dockerd_py_"):
                assert sample.labels.keys() <= allowed | {"le", "version"}
            if family.type == "counter":
                assert sample.name.endswith(("_total", "_created"))
