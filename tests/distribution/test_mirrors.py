"""Registries as configured: mirrors, TLS, headers; with hosts.toml and with Docker's layout of certificates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from cri_dockerd_py.distribution.descriptor import digest_of
from cri_dockerd_py.distribution.host_files import HostFiles
from cri_dockerd_py.distribution.rules.hosts import TlsFiles, default_host
from cri_dockerd_py.errors import NotFound, Unknown
from cri_dockerd_py.model.image import RegistryAuth
from tests.distribution.certificates import Certificates, make_certificates
from tests.distribution.fake_registry import Answer, FakeRegistry, cut, serving, status
from tests.distribution.images import REPOSITORY, push
from tests.distribution.memory_sink import MemorySink
from tests.distribution.pulling import Puller

_DOMAIN = "registry.test:5000"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for this module."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories that may configure registries."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    return tmp_path / "first", tmp_path / "second"


@pytest.fixture
def puller(sink: MemorySink, roots: tuple[Path, Path]) -> Puller:
    """Pulls as configured under `roots`."""
    return Puller(sink, roots)


@pytest.fixture
async def mirror() -> AsyncIterator[FakeRegistry]:
    """Another registry."""
    async with serving() as registry:
        yield registry


def configure(root: Path, text: str, name: str = "registry.test_5000_") -> Path:
    """Write a hosts.toml."""
    (root / name).mkdir(exist_ok=True)
    (root / name / "hosts.toml").write_text(text)
    return root / name


def host(address: str, more: str = "") -> str:
    return f'[host."http://{address}"]\n{more}\n'


# Which host is asked for what


async def test_a_mirror_is_asked_before_the_server(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    push(mirror, "1")
    configure(roots[0], f'server = "http://{fake.address}"\n{host(mirror.address)}')
    await puller(_DOMAIN)
    assert fake.asked == []
    assert {asked.query["ns"] for asked in mirror.asked} == {_DOMAIN}


async def test_what_a_mirror_lacks_comes_from_the_next(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    pushed = push(fake, "1", layers=[b"only there", b"in both"])
    mirror.put_blob(b"in both")
    configure(roots[0], f'server = "http://{fake.address}"\n{host(mirror.address)}')
    await puller(_DOMAIN)
    assert pushed.layer_digests[1] not in fake.paths()
    assert pushed.layer_digests[0] in fake.paths()
    assert pushed.layer_digests[0] in mirror.paths()


async def test_hosts_are_asked_in_the_order_of_the_file(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    order: list[str] = []
    for name, registry in (("second", fake), ("first", mirror)):
        registry.instead[f"/v2/{REPOSITORY}/manifests/1"] = _noting(order, name)
    configure(roots[0], host(mirror.address) + host(fake.address) + host("127.0.0.1:1"))
    with pytest.raises(Unknown, match="RegistryUnavailable"):
        await puller(_DOMAIN)
    assert order == ["first", "second"]


def _noting(order: list[str], name: str) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        order.append(name)
        return web.Response(status=404)

    return answer


async def test_a_mirror_for_content_alone_does_not_resolve_tags(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    pushed = push(fake, "1", layers=[b"content"])
    push(mirror, "1", layers=[b"content"])
    content_alone = host(mirror.address, 'capabilities = ["pull"]')
    configure(roots[0], f'server = "http://{fake.address}"\n{content_alone}')
    await puller(_DOMAIN)
    assert [asked.method for asked in fake.asked] == ["HEAD"]
    mirror.asked.clear()
    await puller(_DOMAIN, f"@{pushed.manifest['digest']}")
    assert [asked.method for asked in mirror.asked] == ["HEAD"]


async def test_a_mirror_that_is_down_is_tried_once(
    fake: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    tries = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    push(fake, "1", layers=[b"a", b"b", b"c"])
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as down:
        address = f"127.0.0.1:{down.sockets[0].getsockname()[1]}"
        configure(roots[0], f'server = "http://{fake.address}"\n{host(address)}')
        await puller(_DOMAIN)
    assert tries <= 3


async def test_a_mirror_with_wrong_content_is_not_the_end(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    pushed = push(fake, "1", layers=[b"the content", b"more"])
    mirror.blobs[pushed.layer_digests[0]] = b"not content"
    mirror.instead[pushed.manifest_path] = status(200, b"x" * pushed.manifest["size"])
    configure(roots[0], f'server = "http://{fake.address}"\n{host(mirror.address)}')
    await puller(_DOMAIN)
    assert puller.sink.blobs[pushed.layer_digests[0]] == b"the content"


async def test_a_transfer_that_breaks_goes_on_at_another_host(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    content = bytes(range(256)) * 4000
    pushed = push(fake, "1", layers=[content])
    broken = cut(content, 700_000)

    async def once(request: web.BaseRequest) -> web.StreamResponse:
        mirror.instead[pushed.blob_path()] = status(503)
        return await broken(request)

    mirror.instead[pushed.blob_path()] = once
    configure(roots[0], f'server = "http://{fake.address}"\n{host(mirror.address)}')
    await puller(_DOMAIN)
    assert puller.sink.blobs[digest_of(content)] == content


async def test_no_host_may_be_asked(fake: FakeRegistry, puller: Puller, roots: tuple[Path, Path]) -> None:
    configure(roots[0], f'server = "http://{fake.address}"\ncapabilities = ["push"]\n')
    with pytest.raises(Unknown, match="no host"):
        await puller(_DOMAIN)


async def test_headers_and_paths(fake: FakeRegistry, puller: Puller, roots: tuple[Path, Path]) -> None:
    pushed = push(fake, "1")
    fake.basic = "user:secret"
    more = f'override_path = true\n[host."http://{fake.address}/proxy/x".header]\nx-key = ["a", "b"]\n'
    configure(roots[0], f'[host."http://{fake.address}/proxy/x"]\n{more}')
    async with serving(FakeRegistry(blobs=fake.blobs)) as storage:
        blob = f"/proxy/x/{REPOSITORY}/blobs/{pushed.layer_digests[0]}"
        fake.instead[blob] = status(307, Location=f"http://{storage.address}{blob}")
        await puller(_DOMAIN, auth=RegistryAuth("user", "secret"))
        assert "x-key" not in storage.asked[0].headers
    assert {asked.path.partition(REPOSITORY)[0] for asked in fake.asked} == {"/proxy/x/"}
    assert {asked.headers["x-key"] for asked in fake.asked} == {"a"}
    assert all(asked.headers["User-Agent"] == "cri-dockerd-py" for asked in fake.asked)


async def test_a_proxy_of_the_environment(
    fake: FakeRegistry, puller: Puller, roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    push(fake, "1")
    configure(roots[0], 'server = "http://registry.test:5000"')
    monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@{fake.address}")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,.other.test")
    await puller(_DOMAIN)
    assert {asked.headers["Host"] for asked in fake.asked} == {_DOMAIN}
    assert {asked.headers["Proxy-Authorization"] for asked in fake.asked} == {"Basic dXNlcjpzZWNyZXQ="}
    monkeypatch.setenv("NO_PROXY", "registry.test")
    with pytest.raises(Unknown, match="RegistryUnavailable"):
        await puller(_DOMAIN)


@pytest.mark.parametrize("place", ["127.0.0.1:9", "127.0.0.1:99999", "[::1", "proxy.invalid:3128", "/127.0.0.1:9", ""])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_the_password_of_a_proxy_that_does_not_serve_is_not_told(
    puller: Puller,
    roots: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    place: str,
) -> None:
    configure(roots[0], 'server = "http://registry.test:5000"')
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}://user:SECRET@{place}")
    with caplog.at_level(logging.DEBUG), pytest.raises(Unknown, match="RegistryUnavailable") as refusal:
        await puller(_DOMAIN)
    assert "SECRET" not in f"{refusal.value}{caplog.text}"


async def test_a_proxy_that_refuses_connections_is_named(
    puller: Puller, roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(roots[0], 'server = "http://registry.test:5000"')
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    with pytest.raises(Unknown, match=r"registry\.test:5000: the proxy 127\.0\.0\.1:9: connection refused"):
        await puller(_DOMAIN)


# Which file decides


@pytest.mark.parametrize("name", ["registry.test_5000_", "registry.test:5000", "_default"])
async def test_names_of_directories(fake: FakeRegistry, puller: Puller, roots: tuple[Path, Path], name: str) -> None:
    push(fake, "1")
    configure(roots[1], f'server = "http://{fake.address}"', name)
    await puller(_DOMAIN)


async def test_the_first_directory_decides(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    push(fake, "1")
    configure(roots[0], f'server = "http://{fake.address}"', "_default")
    configure(roots[1], f'server = "http://{mirror.address}"')
    await puller(_DOMAIN)
    assert mirror.asked == []


async def test_a_change_needs_no_restart(
    fake: FakeRegistry, mirror: FakeRegistry, puller: Puller, roots: tuple[Path, Path]
) -> None:
    push(mirror, "1")
    configure(roots[0], f'server = "http://{fake.address}"')
    with pytest.raises(NotFound):
        await puller(_DOMAIN)
    configure(roots[0], f'server = "http://{mirror.address}"')
    await puller(_DOMAIN)


async def test_a_file_that_cannot_be_followed_is_reported(
    roots: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    directory = configure(roots[0], "server = 1")
    (directory / "a.crt").touch()
    (host,) = await HostFiles(roots).hosts(_DOMAIN)
    assert host.tls == TlsFiles((directory / "a.crt",))
    assert "hosts.toml" in caplog.text


async def test_certificates_in_the_layout_of_docker(roots: tuple[Path, Path]) -> None:
    directory = roots[0] / _DOMAIN
    directory.mkdir()
    for name in ("ca.crt", "one.cert", "one.key", "two.cert", "ignored.txt"):
        (directory / name).touch()
    (host,) = await HostFiles(roots).hosts(_DOMAIN)
    pairs = ((directory / "one.cert", directory / "one.key"), (directory / "two.cert", None))
    assert host.tls == TlsFiles((directory / "ca.crt",), pairs)
    assert (host.scheme, host.address) == ("https", _DOMAIN)
    assert await HostFiles(()).hosts(_DOMAIN) == (default_host(_DOMAIN),)


# TLS


async def test_a_loopback_registry_with_tls_of_its_own(certificates: Certificates, sink: MemorySink) -> None:
    async with serving(context=certificates.server_context()) as secure:
        push(secure, "1")
        await Puller(sink)(secure.address)


async def test_an_authority_of_ones_own(certificates: Certificates, puller: Puller, roots: tuple[Path, Path]) -> None:
    async with serving(context=certificates.server_context()) as secure:
        push(secure, "1")
        text = f'server = "https://{secure.address}"\n'
        configure(roots[0], text)
        with pytest.raises(Unknown, match=r"RegistryUnavailable: .*certificate is not trusted"):
            await puller(_DOMAIN)
        configure(roots[0], f'{text}ca = "{certificates.ca}"')
        await puller(_DOMAIN)
        configure(roots[0], f"{text}skip_verify = true")
        await puller(_DOMAIN)


@pytest.mark.parametrize("layout", ["hosts.toml", "docker"])
async def test_a_certificate_for_the_client(
    certificates: Certificates, puller: Puller, roots: tuple[Path, Path], layout: str
) -> None:
    async with serving(context=certificates.server_context(demand_client=True)) as strict:
        push(strict, "1")
        domain = _DOMAIN if layout == "hosts.toml" else strict.address
        text = f'server = "https://{strict.address}"\nca = "{certificates.ca}"\n'
        configure(roots[0], text)
        with pytest.raises(Unknown, match="RegistryUnavailable"):
            await puller(domain)
        configure(roots[0], f'{text}client = [["{certificates.client}", "{certificates.client_key}"]]')
        directory = roots[0] / strict.address
        directory.mkdir()
        for name, source in (
            ("a.cert", certificates.client),
            ("a.key", certificates.client_key),
            ("ca.crt", certificates.ca),
        ):
            (directory / name).write_bytes(source.read_bytes())
        await puller(domain)


async def test_a_file_that_is_not_there_is_named(puller: Puller, roots: tuple[Path, Path]) -> None:
    configure(roots[0], 'server = "https://127.0.0.1:1"\nca = "missing.crt"')
    with pytest.raises(Unknown, match=r"missing\.crt cannot be used"):
        await puller(_DOMAIN)


async def test_a_mirror_without_tls_despite_settings_for_it(
    fake: FakeRegistry, certificates: Certificates, puller: Puller, roots: tuple[Path, Path]
) -> None:
    push(fake, "1")
    configure(roots[0], f'[host."http://{fake.address}"]\nca = "{certificates.ca}"\n')
    await puller(_DOMAIN)
    async with serving(context=certificates.server_context()) as secure:
        push(secure, "1")
        configure(roots[0], f'[host."http://{secure.address}"]\nca = "{certificates.ca}"\n')
        await puller(_DOMAIN)


async def test_a_redirect_out_of_tls(
    fake: FakeRegistry, certificates: Certificates, puller: Puller, roots: tuple[Path, Path]
) -> None:
    async with serving(context=certificates.server_context()) as secure:
        pushed = push(secure, "1")
        fake.blobs |= secure.blobs
        fake.documents |= secure.documents
        configure(roots[0], f'server = "https://{secure.address}"\nca = "{certificates.ca}"')
        secure.instead[pushed.blob_path()] = status(307, Location=f"http://{fake.address}{pushed.blob_path()}")
        await puller(_DOMAIN)
        tag = f"/v2/{REPOSITORY}/manifests/1"
        secure.instead[tag] = status(307, Location=f"http://{fake.address}{tag}")
        with pytest.raises(Unknown, match="redirects from TLS"):
            await puller(_DOMAIN)


async def test_a_realm_out_of_tls(certificates: Certificates, puller: Puller, roots: tuple[Path, Path]) -> None:
    async with serving(context=certificates.server_context()) as secure, serving() as thief:
        push(secure, "1")
        secure.tokens, secure.realm = ["x"], f"http://{thief.address}/token"
        with pytest.raises(Unknown, match="without"):
            await puller(secure.address, auth=RegistryAuth("user", "secret"))
        assert thief.asked == []
