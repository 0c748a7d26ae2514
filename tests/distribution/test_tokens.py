"""How tokens are asked for."""

from __future__ import annotations

import contextlib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.distribution.rules.challenge import Challenge
from cri_dockerd_py.distribution.rules.credentials import NOBODY, Credentials
from cri_dockerd_py.distribution.rules.tokens import BadChallenge, TokenRealm, read_token, realm_of, token_requests

_REALM = TokenRealm("https://auth/token?account=x", "the service", ("repository:a/b:pull", "repository:c:pull"))


def _challenge(**parameters: str) -> Challenge:
    return Challenge("bearer", {"realm": "https://auth/token", **parameters})


def test_scopes_are_those_of_the_challenge_and_the_pull() -> None:
    realm = realm_of(_challenge(service="s", scope="z y y"), "a/b", registry_is_secure=True)
    assert realm == TokenRealm("https://auth/token", "s", ("repository:a/b:pull", "y", "z"))
    same = realm_of(_challenge(service="s", scope="y repository:a/b:pull z"), "a/b", registry_is_secure=True)
    assert same == realm


@pytest.mark.parametrize(
    "url", ["", "auth/token", "ftp://auth/", "https://", "https://[x", "https://a:b/", "http://a:0/"]
)
def test_realms_that_are_none(url: str) -> None:
    with pytest.raises(BadChallenge, match="realm"):
        realm_of(_challenge(realm=url), "a/b", registry_is_secure=False)


def test_a_registry_with_tls_sends_nobody_to_a_realm_without() -> None:
    challenge = _challenge(realm="http://auth/token")
    assert realm_of(challenge, "a/b", registry_is_secure=False).url == "http://auth/token"
    with pytest.raises(BadChallenge, match="without"):
        realm_of(challenge, "a/b", registry_is_secure=True)


def test_nobody_asks_by_get() -> None:
    (request,) = token_requests(_REALM, NOBODY)
    assert (request.method, request.authorization) == ("GET", "")
    query = parse_qs(urlsplit(request.url).query)
    assert query == {"account": ["x"], "service": ["the service"], "scope": list(_REALM.scopes)}


def test_a_user_asks_by_post_and_then_by_get() -> None:
    post, get = token_requests(_REALM, Credentials("user", "secret"))
    assert (post.method, post.url) == ("POST", _REALM.url)
    assert post.form["scope"] == "repository:a/b:pull repository:c:pull"
    assert (post.form["grant_type"], post.form["username"], post.form["password"]) == ("password", "user", "secret")
    assert (get.method, get.authorization) == ("GET", "Basic dXNlcjpzZWNyZXQ=")
    assert "secret" not in repr((post, get))


def test_a_refresh_token_asks_by_post_alone() -> None:
    (request,) = token_requests(_REALM, Credentials(secret="refresh"))
    assert request.form["grant_type"] == "refresh_token"
    assert request.form["refresh_token"] == "refresh"


@pytest.mark.parametrize(
    ("body", "value", "until_s"),
    [
        (b'{"token": "a"}', "a", 1054.0),
        (b'{"token": "a", "access_token": "b", "expires_in": 300}', "b", 1270.0),
        (b'{"token": "a", "expires_in": 0}', "a", 1054.0),
        (b'{"token": "a", "expires_in": "soon"}', "a", 1054.0),
        (b'{"token": "a", "expires_in": 1e99}', "a", 78760.0),
        (b'{"token": "a", "expires_in": NaN}', "a", 1054.0),
    ],
)
def test_answers_with_a_token(body: bytes, value: str, until_s: float) -> None:
    token = read_token(body, 1000.0)
    assert (token.value, token.usable_until_s) == (value, until_s)
    assert value not in repr(token).replace("usable_until_s", "")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nHeader: b"}', b'{"token": "\xc3\xa4"}', b"[" * 10**5]
)
def test_answers_without(body: bytes) -> None:
    with pytest.raises(BadChallenge):
        read_token(body, 0.0)


@given(st.binary(max_size=200))
def test_no_answer_is_too_strange(body: bytes) -> None:
    with contextlib.suppress(BadChallenge):
        read_token(body, 0.0)
