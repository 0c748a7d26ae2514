"""The HTTP endpoint."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.metrics.endpoint import MetricsEndpoint, parse_bind_address
from cri_dockerd_py.metrics.registry import ServiceMetrics


async def fetch(host: str, port: int, path: str) -> tuple[int, str, str]:
    """Return status, content type and body."""
    name = f"[{host}]" if ":" in host else host
    async with aiohttp.ClientSession() as session, session.get(f"http://{name}:{port}{path}") as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_metrics_page() -> None:
    """Prometheus can read it."""
    metrics = ServiceMetrics()
    endpoint = MetricsEndpoint(metrics.page)
    host, port = await endpoint.start("127.0.0.1:0")
    try:
        status, content_type, body = await fetch(host, port, "/metrics")
    finally:
        await endpoint.close()

    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert {"cri_dockerd_py_build_info", "cri_dockerd_py_rpc"} <= {
        family.name for family in text_string_to_metric_families(body)
    }


@pytest.mark.parametrize(("reason", "status", "text"), [("", 200, "ok\n"), ("docker is away", 503, "docker is away\n")])
async def test_health(reason: str, status: int, text: str) -> None:
    """The answer says whether, and why not."""
    endpoint = MetricsEndpoint(bytes, lambda: reason)
    host, port = await endpoint.start("127.0.0.1:0")
    try:
        found = await fetch(host, port, "/healthz")
    finally:
        await endpoint.close()

    assert (found[0], found[2]) == (status, text)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_changed(method: str) -> None:
    """The service is asked, and nothing else."""
    endpoint = MetricsEndpoint(bytes)
    host, port = await endpoint.start("127.0.0.1:0")
    try:
        async with aiohttp.ClientSession() as session:
            for path, status in (("/metrics", 405), ("/healthz", 405), ("/", 404)):
                async with session.request(method, f"http://{host}:{port}{path}", data=b"x") as response:
                    assert response.status == status
    finally:
        await endpoint.close()


async def test_a_port_in_use_is_told() -> None:
    """The error names the address and the setting; closing twice, or without a start, is fine."""
    first, second = MetricsEndpoint(bytes), MetricsEndpoint(bytes)
    await second.close()
    host, port = await first.start("127.0.0.1:0")
    try:
        with pytest.raises(FailedPrecondition, match=f"{host}:{port}.*metrics-bind-addr"):
            await second.start(f"{host}:{port}")
    finally:
        await first.close()
        await first.close()
        await second.close()


@pytest.mark.parametrize(
    ("text", "parsed"), [("127.0.0.1:9580", ("127.0.0.1", 9580)), ("[::1]:80", ("::1", 80)), (":0", ("", 0))]
)
def test_bind_addresses(text: str, parsed: tuple[str, int]) -> None:
    """Host and port are told apart, with or without brackets."""
    assert parse_bind_address(text) == parsed


@pytest.mark.parametrize("text", ["", "localhost", "localhost:", "localhost:http", "a:70000"])
def test_wrong_bind_addresses(text: str) -> None:
    """What is no address is refused with an example."""
    with pytest.raises(FailedPrecondition, match="such as"):
        parse_bind_address(text)
