"""Tokens of registries: how one is asked for, and what the answer means."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit, urlunsplit

from cri_dockerd_py.distribution.rules.challenge import Challenge
from cri_dockerd_py.distribution.rules.credentials import Credentials

CLIENT_ID = "cri-dockerd-py"
#: A token server that answers the POST so is asked by GET as well.
FALL_BACK_STATUSES = frozenset({400, 401, 404, 405})
_DEFAULT_LIFE_S = 60.0
_LONGEST_LIFE_S = 24 * 3600.0
_USABLE_PART = 0.9


class BadChallenge(ValueError):
    """A demand for a token that cannot be met; the text says why."""


@dataclass(frozen=True, slots=True)
class TokenRealm:
    """Where tokens for one set of scopes come from; equal realms share a token."""

    url: str
    service: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One way to ask: a GET of `url`, or a POST of `form` to it; `authorization` is the header's value."""

    url: str
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    authorization: str = field(default="", repr=False)

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "POST" if self.form else "GET"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and the second until which it is used, on the clock that was asked."""

    value: str = field(repr=False)
    usable_until_s: float


def realm_of(challenge: Challenge, repository: str, *, registry_is_secure: bool) -> TokenRealm:
    """Return where the token for pulling `repository` is, or raise BadChallenge."""
    url = challenge.parameters.get("realm", "")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadChallenge("it demands a token and names no realm where tokens are")
    if registry_is_secure and parts.scheme != "https":
        raise BadChallenge(f"it speaks TLS and sends for tokens to {parts.hostname} without")
    scopes = {*challenge.parameters.get("scope", "").split(), f"repository:{repository}:pull"}
    return TokenRealm(url, challenge.parameters.get("service", ""), tuple(sorted(scopes)))


def token_requests(realm: TokenRealm, credentials: Credentials) -> Sequence[TokenRequest]:
    """Return the ways to ask for a token, to be tried in order."""
    query = [("service", realm.service)] if realm.service else []
    query += [("scope", scope) for scope in realm.scopes]
    parts = urlsplit(realm.url)
    url = urlunsplit(
        (parts.scheme, parts.netloc, parts.path, "&".join(filter(None, (parts.query, urlencode(query)))), "")
    )
    if not credentials.secret:
        return (TokenRequest(url),)
    form = {"scope": " ".join(realm.scopes), "service": realm.service, "client_id": CLIENT_ID}
    if not credentials.username:
        form |= {"grant_type": "refresh_token", "refresh_token": credentials.secret}
        return (TokenRequest(realm.url, form),)
    form |= {"grant_type": "password", "username": credentials.username, "password": credentials.secret}
    return (TokenRequest(realm.url, form), TokenRequest(url, authorization=basic(credentials)))


def read_token(body: bytes, now_s: float) -> Token:
    """Return the token of an answer that came at `now_s`, or raise BadChallenge."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    fields = document if isinstance(document, dict) else {}
    value = fields.get("access_token") or fields.get("token")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise BadChallenge("the token server's answer has no token")
    life_s = fields.get("expires_in")
    if isinstance(life_s, bool) or not isinstance(life_s, int | float) or not life_s > 0:
        life_s = _DEFAULT_LIFE_S
    return Token(value, now_s + min(life_s, _LONGEST_LIFE_S) * _USABLE_PART)


def basic(credentials: Credentials) -> str:
    """Return the Authorization header of a user and a password."""
    pair = f"{credentials.username}:{credentials.secret}".encode()
    return "Basic " + base64.b64encode(pair).decode()
