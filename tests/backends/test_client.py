"""The HTTP client: every way in which a daemon can fail ends as one of our errors, in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import Connected, Disconnected, EngineSnapshot
from cri_dockerd_py.backends.docker.api_errors import error_for
from cri_dockerd_py.backends.docker.client import NEWEST_API, DockerClient
from cri_dockerd_py.backends.docker.daemon_state import DaemonState
from cri_dockerd_py.backends.docker.events import DockerEvents
from cri_dockerd_py.backends.docker.exec_exits import ExecExits
from cri_dockerd_py.backends.docker.hijack import Endpoint, open_hijacked
from cri_dockerd_py.backends.docker.marks import Marks
from cri_dockerd_py.backends.docker.objects import DockerObjects
from cri_dockerd_py.errors import (
    AlreadyExists,
    CriError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unimplemented,
    Unknown,
)
from tests.backends.fake_daemon import FakeDaemon, fake_daemon, http
from tests.engines import DockerEngine

ID = "ab" * 32


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    """A daemon that answers as told."""
    async with fake_daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
async def client(daemon: FakeDaemon) -> AsyncIterator[DockerClient]:
    """A client of it that waits half a second."""
    client = DockerClient(daemon.endpoint, call_within_s=0.5)
    yield client
    await client.close()
    await client.close()


@pytest.mark.behaviour("GEN-17", "STA-12")
async def test_a_daemon_that_takes_no_new_connections_is_away(daemon: FakeDaemon, client: DockerClient) -> None:
    async def nothing() -> None: ...

    async def no_snapshot() -> EngineSnapshot:
        raise AssertionError

    daemon.answers |= {"/events": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", "/x": http(200, b"{}")}
    events = DockerEvents(client, nothing, no_snapshot, Marks(), ExecExits()).events()
    async with asyncio.timeout(10):
        assert isinstance(await anext(events), Connected)
        await client.get("/x")
        daemon.refuse()
        assert await client.get("/x") == {}
        with pytest.raises(Unavailable, match="No such file"):
            await client.ping()
        assert isinstance(lost := await anext(events), Disconnected)
        assert "no new connections" in lost.reason
        assert isinstance(await anext(events), Disconnected)
    await events.aclose()  # type: ignore[attr-defined]


# --- errors


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "bad", InvalidArgument),
        (403, "no", PermissionDenied),
        (404, "No such container: x", NotFound),
        (409, "container is paused", FailedPrecondition),
        (409, 'Conflict. The container name "/x" is already in use by container "ab"', AlreadyExists),
        (500, "the whole\ntext", Unknown),
        (500, "unrecognized image ID sha256:ab", NotFound),
        (501, "not here", Unimplemented),
        (503, "later", Unavailable),
        (418, "teapot", Unavailable),
    ],
)
def test_statuses(status: int, message: str, kind: type[CriError]) -> None:
    error = error_for("GET /x", status, json.dumps({"message": message}).encode())
    assert type(error) is kind
    assert message in str(error)


@pytest.mark.parametrize("body", [b"", b"plain text", b"[]", b'{"message": 5}', b"\xff\xfe", b"[" * 99999])
def test_bodies_that_are_no_error_messages(body: bytes) -> None:
    assert str(error_for("GET /x", 500, body))


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b"{not json"),
        http(200, b"[" * 100_000),
        http(200, b"\xff\xfe\xfd"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
        None,
    ],
)
async def test_rubbish_and_silence_are_unavailable(
    daemon: FakeDaemon, client: DockerClient, answer: bytes | None
) -> None:
    daemon.answers["/info"] = answer
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match=r"GET /info"):
            await client.get("/info")


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'"x"', b"5", b'{"Runtimes": 5}', b'{"Runtimes": "x"}', b'{"DriverStatus": 1}']
)
async def test_senseless_info_is_unavailable(daemon: FakeDaemon, client: DockerClient, body: bytes) -> None:
    daemon.answers["/info"] = http(200, body)
    with pytest.raises(Unavailable):
        await DaemonState(client).facts()


@pytest.mark.parametrize("body", [b"[]", b"null", b"{}", b'{"Id": 5}', b'{"Id":"x","State":[],"Config":{}}', b""])
async def test_senseless_objects_are_unavailable(daemon: FakeDaemon, client: DockerClient, body: bytes) -> None:
    daemon.answers |= {f"/{ID}/json": http(200, body), "/containers/create": http(201, body)}
    objects = DockerObjects(client, Marks())
    with pytest.raises(Unavailable):
        await objects.find(ID)
    if body != b'{"Id":"x","State":[],"Config":{}}':
        with pytest.raises(Unavailable):
            await objects.create("k8s_x", {})


async def test_nobody_listens(tmp_path: Path) -> None:
    client = DockerClient(f"unix://{tmp_path}/none")
    for call in (client.get("/info"), client.ping(), client.hijack("/exec/{}/start", "x")):
        with pytest.raises(Unavailable, match="none"):
            await call
    assert await client.daemon_pid() == 0
    await client.close()


# --- versions


@pytest.mark.parametrize(("offered", "chosen"), [("1.41", (1, 41)), ("1.47", (1, 47)), ("1.99", NEWEST_API)])
async def test_negotiation(daemon: FakeDaemon, client: DockerClient, offered: str, chosen: tuple[int, int]) -> None:
    daemon.answers |= {"/_ping": http(200, b"OK", api=offered), "/info": http(200, b"{}")}
    await client.get("/info")
    assert client.api == chosen
    assert daemon.requests[-1] == f"GET /v1.{chosen[1]}/info HTTP/1.1"


@pytest.mark.parametrize("offered", ["1.40", "1.9"])
async def test_engines_that_are_too_old(daemon: FakeDaemon, client: DockerClient, offered: str) -> None:
    daemon.answers["/_ping"] = http(200, b"OK", api=offered)
    with pytest.raises(FailedPrecondition, match=r"1\.41 or newer"):
        await client.get("/info")


async def test_something_else_listens(daemon: FakeDaemon, client: DockerClient) -> None:
    daemon.answers["/_ping"] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(Unavailable, match="no Docker Engine"):
        await client.get("/info")


async def test_daemon_is_replaced_by_an_older_one(daemon: FakeDaemon, client: DockerClient) -> None:
    daemon.answers |= {"/_ping": http(200, b"OK", api="1.50"), "/v1.50/info": http(200, b"{}")}
    await client.get("/info")
    too_new = b'{"message":"client version 1.50 is too new. Maximum supported API version is 1.41"}'
    daemon.answers |= {
        "/_ping": http(200, b"OK", api="1.41"),
        "/v1.50/info": http(400, too_new),
        "/v1.41/info": http(200, b'{"a":1}'),
    }
    assert await client.get("/info") == {"a": 1}


# --- calls


async def test_names_cannot_become_paths(daemon: FakeDaemon, client: DockerClient) -> None:
    for name in ("../x", "a?b=c", "a/b#c", "a b", "a\r\nHost: evil", "ü%"):
        with pytest.raises(NotFound):
            await client.get("/containers/{}/json", name)
        line = daemon.requests[-1]
        assert line.startswith("GET /v1.41/containers/")
        assert line.count("/") == 5, line
        assert not {"?", "#", "\r"} & set(line)


async def test_calls_are_observed(daemon: FakeDaemon) -> None:
    seen: list[tuple[str, str]] = []
    client = DockerClient(daemon.endpoint, observe=lambda call, seconds, code: seen.append((call, code)))
    daemon.answers["/start"] = http(304)
    assert await client.post("/containers/{}/start", ID) is None
    with pytest.raises(NotFound):
        await client.delete("/containers/{}", ID)
    await client.close()
    assert seen == [
        ("GET /_ping", "OK"),
        ("POST /containers/{}/start", "OK"),
        ("DELETE /containers/{}", "NotFound"),
    ]


async def test_stream_of_objects(daemon: FakeDaemon, client: DockerClient) -> None:
    body = '{"a":1}\r\n{"b":"ü"}{"c":3}\n[1]\n'.encode()

    async def read() -> list[dict[str, object]]:
        async with client.stream("GET", "/events") as messages:
            return [message async for message in messages]

    daemon.answers["/events"] = http(200, body)
    assert await read() == [{"a": 1}, {"b": "ü"}, {"c": 3}]
    daemon.answers["/events"] = http(200, b"x" * (2 << 20))
    with pytest.raises(Unavailable, match="no JSON"):
        await read()


@pytest.mark.parametrize("answer", [b"rubbish\r\n\r\n", b"", b"HTTP/1.1 xyz\r\n\r\n", b"x" * 300_000, None])
async def test_rubbish_instead_of_a_hijacked_connection(
    daemon: FakeDaemon, client: DockerClient, answer: bytes | None
) -> None:
    daemon.answers["/start"] = answer
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await client.hijack("/exec/{}/start", ID)


async def test_refused_hijack(daemon: FakeDaemon, client: DockerClient) -> None:
    daemon.answers["/start"] = http(409, b'{"message":"container is paused"}')
    with pytest.raises(FailedPrecondition, match="container is paused"):
        await client.hijack("/exec/{}/start", ID)


async def test_a_hijacked_connection_that_nobody_reads_is_closed(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
        await ended.wait()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        connection = await open_hijacked(Endpoint(str(tmp_path / "s")), "/attach", b"", "POST /attach")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.write(bytes(8 << 20))
        try:
            async with asyncio.timeout(5):
                await connection.close()
                await connection.close()
        finally:
            ended.set()
        assert await connection.read() == b""


@pytest.mark.parametrize("text", ["", "unix://", "unix://relative", "tcp://host", "tcp://:1", "http://x", "/path"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(InvalidArgument, match="endpoint"):
        Endpoint.parse(text)


def test_endpoints() -> None:
    assert str(Endpoint.parse("unix:///run/docker.sock")) == "unix:///run/docker.sock"
    assert Endpoint.parse("tcp://10.0.0.1:2375").base_url == "http://10.0.0.1:2375"


# --- a real daemon


async def test_many_calls_at_once(docker_engine: DockerEngine) -> None:
    client = DockerClient(docker_engine.endpoint)
    answers = await asyncio.gather(*(client.get("/version") for _ in range(250)))
    assert {answer["Version"] for answer in answers} == {docker_engine.client.version()["Version"]}
    assert await client.daemon_pid() == docker_engine.daemon.pid
    await client.close()
