"""Logging in to registries, with every form of credentials (IMG-36 to IMG-38, IMG-43)."""

from __future__ import annotations

import pytest
from aiohttp import web

from cri_dockerd_py.errors import CriError, Unknown
from cri_dockerd_py.model.image import RegistryAuth
from tests.distribution.fake_registry import Asked, FakeRegistry, serving
from tests.distribution.images import REPOSITORY, push
from tests.distribution.pulling import Puller

_USER = RegistryAuth("user", "p@ss:word")
_SCOPE = f"repository:{REPOSITORY}:pull"


def _user_in_form(asked: Asked) -> bool:
    return asked.form.get("username") == ["user"] and asked.form.get("password") == ["p@ss:word"]


@pytest.mark.behaviour("IMG-36")
async def test_a_user_by_basic(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1", layers=[b"one", b"two", b"three", b"four"])
    fake.basic = "user:p@ss:word"
    await puller(fake.address, auth=_USER)
    assert sum(not asked.authorization for asked in fake.asked) == 1, "what is known to be demanded is sent at once"


@pytest.mark.behaviour("IMG-36")
@pytest.mark.parametrize("methods", [("GET", "POST"), ("GET",)])
async def test_a_user_for_a_token(fake: FakeRegistry, puller: Puller, methods: tuple[str, ...]) -> None:
    push(fake, "1", layers=[b"one", b"two", b"three", b"four"])
    fake.tokens = ["the token"]
    fake.token_methods = methods
    fake.token_gate = lambda asked: _user_in_form(asked) or asked.authorization == "Basic dXNlcjpwQHNzOndvcmQ="
    await puller(fake.address, auth=_USER)
    requests = [asked for asked in fake.asked if asked.path == "/token"]
    assert [asked.method for asked in requests] == ["POST", "GET"][: 3 - len(methods)]
    last = requests[-1]
    assert last.form.get("scope", [last.query.get("scope", "")]) == [_SCOPE]


@pytest.mark.behaviour("IMG-36")
async def test_an_identity_token(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens = ["the token"]
    fake.token_gate = lambda asked: asked.form.get("refresh_token") == ["refresh me"]
    await puller(fake.address, auth=RegistryAuth(identity_token="refresh me"))


@pytest.mark.behaviour("IMG-36")
async def test_a_registry_token(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens = ["given out before"]
    fake.token_gate = lambda asked: False
    await puller(fake.address, auth=RegistryAuth(registry_token="given out before"))
    with pytest.raises(Unknown, match="pull access denied"):
        await puller(fake.address, auth=RegistryAuth(registry_token="another"))
    assert "/token" not in [asked.path for asked in fake.asked]


@pytest.mark.behaviour("IMG-38")
async def test_nobody_gets_an_anonymous_token(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens = ["for everybody"]
    await puller(fake.address)
    (asked,) = [asked for asked in fake.asked if asked.path == "/token"]
    assert (asked.method, asked.authorization, asked.query["service"]) == ("GET", "", "fake")


async def test_scopes_of_the_challenge_are_asked_for_as_well(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens = ["x"]
    fake.challenge_extra = ',scope="repository:other:pull"'
    fake.token_gate = lambda asked: asked.form["scope"] == [f"repository:other:pull {_SCOPE}"]
    await puller(fake.address, auth=_USER)


async def test_a_token_that_expires_during_the_pull_is_renewed_once(fake: FakeRegistry, puller: Puller) -> None:
    pushed = push(fake, "1", layers=[b"one", b"two", b"three"])
    fake.tokens = ["first"]

    async def expire(request: web.BaseRequest) -> web.StreamResponse:
        fake.tokens.append("second")
        del fake.instead[pushed.manifest_path]
        fake.asked.pop()
        return await fake.handle(request)

    fake.instead[pushed.manifest_path] = expire
    await puller(fake.address, auth=_USER)
    assert [asked.path for asked in fake.asked].count("/token") == 2


@pytest.mark.behaviour("IMG-38")
async def test_credentials_are_not_kept_for_the_next_pull(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.basic = "user:p@ss:word"
    await puller(fake.address, auth=_USER)
    with pytest.raises(Unknown, match="no basic auth credentials"):
        await puller(fake.address)


@pytest.mark.behaviour("IMG-37")
@pytest.mark.parametrize(("server", "works"), [("{}", True), ("http://{}/v2/", True), ("quay.io", False)])
async def test_credentials_for_a_server(fake: FakeRegistry, puller: Puller, server: str, works: bool) -> None:
    push(fake, "1")
    fake.basic = "user:p@ss:word"
    auth = RegistryAuth("user", "p@ss:word", server_address=server.format(fake.address))
    if works:
        await puller(fake.address, auth=auth)
        return
    with pytest.raises(Unknown, match="pull access denied"):
        await puller(fake.address, auth=auth)
    assert not any(asked.authorization for asked in fake.asked)


@pytest.mark.behaviour("IMG-36", "IMG-43")
@pytest.mark.parametrize("by_token", [True, False])
async def test_wrong_credentials(fake: FakeRegistry, puller: Puller, by_token: bool) -> None:
    push(fake, "1")
    fake.basic, fake.tokens = ("", ["x"]) if by_token else ("user:other", [])
    fake.token_gate = lambda asked: False
    with pytest.raises(CriError, match="pull access denied") as failure:
        await puller(fake.address, auth=_USER)
    assert "p@ss" not in str(failure.value)
    assert len(fake.asked) < 6


@pytest.mark.behaviour("IMG-43")
async def test_a_registry_that_repeats_the_password(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens = ["x"]

    async def chatty(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=418, text=f"{await request.text()} p@ss:word")

    fake.instead["/token"] = chatty
    with pytest.raises(CriError, match="418") as failure:
        await puller(fake.address, auth=_USER)
    assert "p@ss:word" not in str(failure.value)


async def test_a_token_that_never_opens(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens = ["right"]

    async def wrong(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"token": f"wrong {len(fake.asked)}"})

    fake.instead["/token"] = wrong
    with pytest.raises(Unknown, match="pull access denied"):
        await puller(fake.address, auth=_USER)
    assert len(fake.asked) < 8


async def test_a_demand_of_an_unknown_kind(fake: FakeRegistry, puller: Puller) -> None:
    async def negotiate(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": "Negotiate"})

    fake.instead[f"/v2/{REPOSITORY}/manifests/1"] = negotiate
    with pytest.raises(Unknown, match="not known here"):
        await puller(fake.address, auth=_USER)


async def test_a_token_server_on_another_host(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    async with serving(FakeRegistry(tokens=["x"], token_gate=_user_in_form)) as server:
        fake.tokens, fake.realm = ["x"], f"http://{server.address}/token"
        await puller(fake.address, auth=_USER)
        assert [asked.method for asked in server.asked] == ["POST"]


async def test_a_token_server_that_is_away(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens, fake.realm = ["x"], "http://127.0.0.1:1/token"
    with pytest.raises(Unknown, match=r"^RegistryUnavailable: .*token server .*connection refused"):
        await puller(fake.address, auth=_USER)


async def test_a_form_with_a_password_is_not_redirected(fake: FakeRegistry, puller: Puller) -> None:
    push(fake, "1")
    fake.tokens = ["x"]
    async with serving() as thief:

        async def elsewhere(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"http://{thief.address}/token"})

        fake.instead["/token"] = elsewhere
        with pytest.raises(Unknown, match="307"):
            await puller(fake.address, auth=_USER)
        assert thief.asked == []
