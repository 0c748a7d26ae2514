"""Real kubectl against the whole service on a real engine."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from tests.cri_server import CriClient
from tests.processes import wait_until
from tests.streaming.apiserver import ApiServer
from tests.streaming.conftest import settled
from tests.streaming.kubectl import KINDS, Kubectl

pytestmark = pytest.mark.timeout(120)

_PAGE = "served inside the pod"


class CriUrls:
    """Hands out the URLs of the service."""

    def __init__(self, client: CriClient, pod_id: str, container_id: str) -> None:
        self._runtime = client.runtime
        self._pod_id = pod_id
        self._container_id = container_id

    async def exec(self, container: str, command: tuple[str, ...], **streams: bool) -> str:
        request = cri.ExecRequest(container_id=self._container_id, cmd=command, **streams)
        return (await asyncio.to_thread(self._runtime.Exec, request, timeout=10)).url

    async def attach(self, container: str, **streams: bool) -> str:
        request = cri.AttachRequest(container_id=self._container_id, **streams)
        return (await asyncio.to_thread(self._runtime.Attach, request, timeout=10)).url

    async def port_forward(self) -> str:
        request = cri.PortForwardRequest(pod_sandbox_id=self._pod_id)
        return (await asyncio.to_thread(self._runtime.PortForward, request, timeout=10)).url


@pytest.fixture
def running(client: CriClient) -> tuple[str, str]:
    """A pod and its container: a shell that answers lines, beside a web server."""
    config = client.sandbox_config()
    pod_id = client.run_pod(config)
    script = (
        f"mkdir /www; echo {_PAGE} >/www/index.html; ln -s busybox /bin/tar; httpd -p 127.0.0.1:8080 -h /www; "
        'echo ready >/ready; while read x; do echo "got $x"; done; echo bye'
    )
    container = client.container_config("/bin/sh", "-c", script, stdin=True, stdin_once=True)
    container_id = client.start_container(pod_id, container, config)
    wait_until(lambda: client.exec_sync(container_id, "cat", "/ready").exit_code == 0, "the container being ready", 30)
    return pod_id, container_id


@pytest.fixture(params=["1.20 SPDY", "new WebSocket"])
async def kube(
    request: pytest.FixtureRequest, client: CriClient, running: tuple[str, str], tmp_path: Path
) -> AsyncIterator[Kubectl]:
    """A kubectl of each generation."""
    api = ApiServer(CriUrls(client, *running))
    yield Kubectl(KINDS[request.param], api, await api.start(), tmp_path)
    await api.stop()


async def test_exec(kube: Kubectl) -> None:
    result = await kube.shell("echo out; echo err >&2; exit 3")
    assert (result.code, result.stdout) == (3, b"out\n")
    assert result.stderr.startswith(b"err\n")
    data = os.urandom(16 << 20)
    result = await kube.shell("sha256sum", "-i", stdin=data)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest(), result.stderr
    result = await kube.shell("yes 0123456789abcde | head -c 16777216; exit 7")
    assert (result.code, result.stdout) == (7, b"0123456789abcde\n" * (1 << 20))
    result = await kube.run("exec", "web", "--", "/no/such/program")
    assert result.code != 0
    assert b"/no/such/program" in result.stderr
    result = await kube.shell("kill -9 $$")
    assert result.code == 137


async def test_the_last_byte_is_always_there(kube: Kubectl) -> None:
    for size in range(1, 200_000, 20_011):
        result = await kube.shell(f"head -c {size} /dev/zero")
        assert (result.code, len(result.stdout)) == (0, size)


async def test_cp_both_ways(kube: Kubectl, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(4 << 20))
    result = await kube.run("cp", str(source), "web:/inside")
    assert result.code == 0, result.stderr
    result = await kube.run("cp", "web:/inside", str(back))
    assert result.code == 0, result.stderr
    assert back.read_bytes() == source.read_bytes()


async def test_attach(kube: Kubectl) -> None:
    process = await kube.start("attach", "-i", "web", stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(30):
        process.stdin.write(b"hello\n")
        assert await process.stdout.readline() == b"got hello\n"
        process.stdin.close()
        assert await process.stdout.readline() == b"bye\n"
        assert await process.wait() == 0


async def test_a_killed_kubectl_takes_its_command_along(
    kube: Kubectl, client: CriClient, running: tuple[str, str]
) -> None:
    process = await kube.start("exec", "web", "--", "sh", "-c", "echo begun; exec sleep 4242")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    process.kill()
    await process.communicate()

    def gone() -> bool:
        return client.exec_sync(running[1], "pgrep", "-f", "sleep 4242").exit_code != 0

    await settled(gone)


async def test_port_forward(kube: Kubectl) -> None:
    process = await kube.start("port-forward", "--address", "127.0.0.1", "pod/web", ":8080")
    assert process.stdout is not None
    match = re.search(r":(\d+) ->", (await process.stdout.readline()).decode())
    assert match is not None

    async def fetch() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(match[1]))
        writer.write(b"GET /index.html HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2]

    assert await asyncio.gather(*(fetch() for _ in range(20))) == [f"{_PAGE}\n".encode()] * 20
    process.terminate()
    await process.communicate()
