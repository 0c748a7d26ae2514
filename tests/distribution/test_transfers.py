"""Transfers that break, hang, lie or are redirected."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest
from aiohttp import web

from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.image import RegistryAuth
from tests.distribution.fake_registry import FakeRegistry, Hanging, cut, serving, status
from tests.distribution.images import REPOSITORY, Pushed, push
from tests.distribution.pulling import Puller

_BIG = 2_000_000
_TAG = f"/v2/{REPOSITORY}/manifests/1"


@pytest.fixture
def big(fake: FakeRegistry) -> Pushed:
    """An image with one large layer, tagged `1`."""
    return push(fake, "1", layers=[secrets.token_bytes(_BIG)])


def _ranges(fake: FakeRegistry, image: Pushed) -> list[str]:
    return [asked.headers.get("Range", "") for asked in fake.asked if asked.path == image.blob_path()]


async def test_a_broken_transfer_goes_on_where_it_broke(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    fake.instead[big.blob_path()] = cut(big.layers[0], 600_000, times=2)
    await puller(fake.address)
    assert puller.sink.blobs[big.layer_digests[0]] == big.layers[0]
    assert _ranges(fake, big) == ["", "bytes=600000-", "bytes=1200000-"]


async def test_a_registry_that_knows_no_ranges(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    whole = status(200, big.layers[0])
    broken = cut(big.layers[0], 600_000)

    async def once(request: web.BaseRequest) -> web.StreamResponse:
        fake.instead[big.blob_path()] = whole
        return await broken(request)

    fake.instead[big.blob_path()] = once
    await puller(fake.address)
    assert puller.sink.blobs[big.layer_digests[0]] == big.layers[0]
    assert _ranges(fake, big) == ["", "bytes=600000-"]


async def test_what_an_earlier_pull_left_is_used(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    puller.sink.parts[big.layer_digests[0]] = big.layers[0][:1_500_000]
    await puller(fake.address)
    assert puller.sink.blobs[big.layer_digests[0]] == big.layers[0]
    assert _ranges(fake, big) == ["bytes=1500000-"]


async def test_wrong_bytes_of_an_earlier_pull_are_dropped(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    puller.sink.parts[big.layer_digests[0]] = b"wrong" * 1000
    await puller(fake.address)
    assert puller.sink.blobs[big.layer_digests[0]] == big.layers[0]
    assert _ranges(fake, big) == ["bytes=5000-", ""]


async def test_a_transfer_that_breaks_without_end(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    fake.instead[big.blob_path()] = cut(big.layers[0], 10, times=100)
    with pytest.raises(Unknown, match=r"^RegistryUnavailable: .*again and again"):
        await puller(fake.address)
    assert _ranges(fake, big)[-1] == "bytes=40-"
    assert puller.sink.parts[big.layer_digests[0]] == big.layers[0][:50], "what has come is kept for the next pull"


async def test_content_of_another_digest(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    fake.blobs[big.layer_digests[0]] = secrets.token_bytes(_BIG)
    with pytest.raises(Unknown, match=f"{fake.address} sent is not {big.layer_digests[0]}"):
        await puller(fake.address)
    assert big.layer_digests[0] not in puller.sink.blobs | puller.sink.parts
    assert len(_ranges(fake, big)) == 2


@pytest.mark.parametrize("length", [_BIG + 1, _BIG - 1])
async def test_content_of_another_length(fake: FakeRegistry, puller: Puller, big: Pushed, length: int) -> None:
    fake.blobs[big.layer_digests[0]] = bytes(length)
    with pytest.raises(Unknown, match=f"{length} bytes where the manifest promises {_BIG}"):
        await puller(fake.address)
    assert big.layer_digests[0] not in puller.sink.parts


async def test_a_body_without_end_is_cut_off(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))
            sent += 65536

    fake.instead[big.blob_path()] = endless
    async with asyncio.timeout(20):
        with pytest.raises(Unknown, match=f"more than the {_BIG} bytes"):
            await puller(fake.address)
    assert sent < 50_000_000


async def test_a_body_that_ends_early_without_length(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    async def short(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(big.layers[0][:1000])
        del fake.instead[big.blob_path()]
        return response

    fake.instead[big.blob_path()] = short
    await puller(fake.address)
    assert _ranges(fake, big) == ["", "bytes=1000-"]


@pytest.mark.parametrize("content", [b"{}", b"x" * 10_000_000], ids=["short", "long"])
async def test_a_manifest_of_another_digest(fake: FakeRegistry, puller: Puller, big: Pushed, content: bytes) -> None:
    fake.instead[big.manifest_path] = status(200, content)
    with pytest.raises(Unknown, match="not what size and digest promise"):
        await puller(fake.address)
    assert puller.sink.blobs == {}


async def test_a_tag_that_answers_with_another_digest(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    other = push(fake)
    fake.documents[other.manifest["digest"]] = fake.documents["1"]
    with pytest.raises(Unknown, match="not that of its digest"):
        await puller(fake.address, f"@{other.manifest['digest']}")


async def test_a_manifest_that_is_too_large(fake: FakeRegistry, puller: Puller) -> None:
    fake.put_document("application/vnd.oci.image.manifest.v1+json", b" " * (5 << 20), "1")
    with pytest.raises(Unknown, match="larger than"):
        await puller(fake.address)


async def test_content_is_never_decompressed(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    fake.instead[big.blob_path()] = status(200, big.layers[0], Content_Encoding="gzip")
    await puller(fake.address)
    assert puller.sink.blobs[big.layer_digests[0]] == big.layers[0]
    assert {asked.headers["Accept-Encoding"] for asked in fake.asked} == {"identity"}


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_a_registry_that_is_busy_for_a_moment(fake: FakeRegistry, puller: Puller, big: Pushed, code: int) -> None:
    async def once(request: web.BaseRequest) -> web.StreamResponse:
        del fake.instead[big.manifest_path]
        return web.Response(status=code)

    fake.instead[big.manifest_path] = once
    await puller(fake.address)


@pytest.mark.behaviour("IMG-41")
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (503, "^RegistryUnavailable: .*503 Service Unavailable"),
        (500, "^failed .*500"),
        (403, "^pull access denied .*403"),
    ],
)
async def test_a_registry_that_refuses(fake: FakeRegistry, puller: Puller, code: int, text: str) -> None:
    fake.instead[_TAG] = status(code)
    with pytest.raises(Unknown, match=text):
        await puller(fake.address)
    assert len(fake.asked) == 2


async def test_a_registry_with_a_limit(fake: FakeRegistry, puller: Puller) -> None:
    fake.instead[_TAG] = status(429, b"slow down", Retry_After="7200")
    with pytest.raises(Unknown, match="429 Too Many Requests"):
        await puller(fake.address)
    assert len(fake.asked) == 1


@pytest.mark.behaviour("IMG-41")
async def test_a_registry_that_is_not_there(puller: Puller) -> None:
    with pytest.raises(Unknown, match=r"^RegistryUnavailable: 127.0.0.1:1/.*connection refused"):
        await puller("127.0.0.1:1")


async def test_a_registry_that_closes_at_once(puller: Puller) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Unknown, match=r"^RegistryUnavailable"):
            await puller(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_a_server_that_speaks_no_http(puller: Puller) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n" * 3)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        with pytest.raises(Unknown, match=r"^RegistryUnavailable"):
            await puller(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


# Stalls and cancellation


@pytest.mark.behaviour("IMG-33")
async def test_a_body_that_stalls(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    hanging = fake.instead[big.blob_path()] = Hanging(big.layers[0], 700_000)
    began_s = time.monotonic()
    with pytest.raises(Unknown, match=r"^RegistryUnavailable: .*no progress for 1 s"):
        await puller(fake.address, stall_s=1.0)
    assert 1.0 <= time.monotonic() - began_s < 5
    async with asyncio.timeout(5):
        await hanging.gone.wait()
    assert len(puller.sink.parts[big.layer_digests[0]]) == 700_000 or puller.sink.parts == {}


@pytest.mark.behaviour("IMG-33")
async def test_a_registry_that_never_answers(puller: Puller) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Unknown, match=r"^RegistryUnavailable: .*no progress for 0.3 s"):
            await puller(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", stall_s=0.3)


@pytest.mark.behaviour("IMG-33")
async def test_a_slow_sink_is_no_stall(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    puller.sink.room.clear()
    job = asyncio.ensure_future(puller(fake.address, stall_s=1.0))
    _, pending = await asyncio.wait({job}, timeout=2.0)
    assert pending
    puller.sink.room.set()
    async with asyncio.timeout(20):
        await job


@pytest.mark.behaviour("IMG-33")
async def test_one_body_that_stalls_while_another_moves_is_asked_for_anew(fake: FakeRegistry, puller: Puller) -> None:
    image = push(fake, "1", layers=[secrets.token_bytes(_BIG), secrets.token_bytes(_BIG)])
    hanging = Hanging(image.layers[0], 600_000)

    async def once(request: web.BaseRequest) -> web.StreamResponse:
        del fake.instead[image.blob_path(0)]
        return await hanging(request)

    async def trickle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(_BIG)})
        await response.prepare(request)
        await response.write(image.layers[1][: _BIG - 200])
        for at in range(_BIG - 200, _BIG):
            if fake.paths().count(image.layer_digests[0]) < 2:
                await asyncio.wait({asyncio.ensure_future(hanging.gone.wait())}, timeout=0.05)
            await response.write(image.layers[1][at : at + 1])
        return response

    fake.instead = {image.blob_path(0): once, image.blob_path(1): trickle}
    async with asyncio.timeout(30):
        await puller(fake.address, stall_s=1.0)
    assert fake.paths().count(image.layer_digests[0]) == 2


@pytest.mark.behaviour("IMG-34")
async def test_cancelling_closes_the_connections(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    hanging = fake.instead[big.blob_path()] = Hanging(big.layers[0], 700_000)
    job = asyncio.ensure_future(puller(fake.address))
    async with asyncio.timeout(10):
        await hanging.begun.wait()
        job.cancel()
        await asyncio.wait({job})
        assert job.cancelled()
        await hanging.gone.wait()
    assert puller.sink.open_writers == 0
    del fake.instead[big.blob_path()]
    await puller(fake.address)
    assert puller.sink.blobs[big.layer_digests[0]] == big.layers[0]


# Redirects


async def test_blobs_elsewhere_are_fetched_without_the_login(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    fake.basic = "user:secret"
    async with serving(FakeRegistry(blobs=dict(fake.blobs))) as storage:
        target = f"http://{storage.address}/x/blobs/{big.layer_digests[0]}?signature=a%2Fb%3D%3D"
        fake.instead[big.blob_path()] = status(307, Location=target)
        await puller(fake.address, auth=RegistryAuth("user", "secret"))
        (asked,) = storage.asked
        assert asked.authorization == ""
        assert asked.query == {"signature": "a/b=="}
    assert puller.sink.blobs[big.layer_digests[0]] == big.layers[0]


async def test_a_storage_that_demands_a_login_gets_none(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    fake.basic = "user:secret"
    async with serving(FakeRegistry(basic="user:secret")) as thief:
        fake.instead[big.blob_path()] = status(307, Location=f"http://{thief.address}/")
        with pytest.raises(Unknown, match="pull access denied"):
            await puller(fake.address, auth=RegistryAuth("user", "secret"))
        assert not any(asked.authorization for asked in thief.asked)


async def test_redirects_on_the_same_host_keep_the_login(fake: FakeRegistry, puller: Puller, big: Pushed) -> None:
    fake.basic = "user:secret"
    fake.instead[big.blob_path()] = status(302, Location=f"/moved/blobs/{big.layer_digests[0]}")
    await puller(fake.address, auth=RegistryAuth("user", "secret"))


@pytest.mark.parametrize(
    ("location", "why"),
    [("{path}", "redirects"), ("file:///etc/passwd", "no URL"), ("ftp://host/", "no URL"), ("http://[x/", "no URL")],
)
async def test_redirects_that_lead_nowhere(
    fake: FakeRegistry, puller: Puller, big: Pushed, location: str, why: str
) -> None:
    fake.instead[big.blob_path()] = status(307, Location=location.format(path=big.blob_path()))
    with pytest.raises(Unknown, match=why):
        await puller(fake.address)
    assert len(_ranges(fake, big)) <= 11
