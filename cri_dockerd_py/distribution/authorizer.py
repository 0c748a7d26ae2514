"""Logging in: from a registry's challenge to the Authorization header, for the time of one pull."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from cri_dockerd_py.distribution.rules.answers import Failure, text_of
from cri_dockerd_py.distribution.rules.challenge import Challenge, parse_challenges, preferred
from cri_dockerd_py.distribution.rules.credentials import Credentials
from cri_dockerd_py.distribution.rules.hosts import RegistryHost
from cri_dockerd_py.distribution.rules.tokens import (
    FALL_BACK_STATUSES,
    BadChallenge,
    Token,
    TokenRealm,
    TokenRequest,
    basic,
    read_token,
    realm_of,
    token_requests,
)
from cri_dockerd_py.distribution.transport import Transport, Unreachable

_ANSWER_LIMIT_BYTES = 256 << 10


class LoginFailed(Exception):
    """A registry's demand was not met."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Authorizer:
    """What each host of one repository is shown; nothing outlives the pull (IMG-38)."""

    def __init__(self, credentials: Credentials, repository: str, transport: Transport) -> None:
        self._credentials = credentials
        self._repository = repository
        self._transport = transport
        self._headers: dict[str, str] = {}
        self._tokens: dict[TokenRealm, Token] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def header(self, host: RegistryHost) -> str:
        """Return the Authorization header for a host, "" where none was demanded so far."""
        return self._headers.get(host.address, "")

    async def log_in(self, host: RegistryHost, demands: Iterable[str], shown: str, *, secure: bool) -> None:
        """Meet the WWW-Authenticate headers of a host that refused `shown`; LoginFailed when that cannot be done.

        `secure` is whether the host speaks TLS.
        """
        async with self._locks[host.address]:
            if self.header(host) != shown:
                return  # another request has logged in meanwhile
            challenge = preferred(parse_challenges(demands))
            if challenge is None:
                raise _failed(host, "it demands a login of a kind that is not known here")
            if challenge.scheme == "basic":
                header = self._basic(host)
            else:
                header = await self._bearer(host, challenge, shown, secure=secure)
            if header == shown:
                raise _failed(host, "unauthorized: the credentials are refused")
            self._headers[host.address] = header

    def _basic(self, host: RegistryHost) -> str:
        if not (self._credentials.username and self._credentials.secret):
            raise _failed(host, "unauthorized: no basic auth credentials")
        return basic(self._credentials)

    async def _bearer(self, host: RegistryHost, challenge: Challenge, shown: str, *, secure: bool) -> str:
        if self._credentials.bearer:
            return f"Bearer {self._credentials.bearer}"
        try:
            realm = realm_of(challenge, self._repository, registry_is_secure=secure)
        except BadChallenge as error:
            raise _failed(host, str(error)) from None
        token = self._tokens.get(realm)
        now_s = asyncio.get_running_loop().time()
        if token is None or token.usable_until_s <= now_s or shown == f"Bearer {token.value}":
            token = self._tokens[realm] = await self._fetch(host, realm, token_requests(realm, self._credentials))
        return f"Bearer {token.value}"

    async def _fetch(self, host: RegistryHost, realm: TokenRealm, requests: Sequence[TokenRequest]) -> Token:
        own = realm.url.startswith(f"{host.scheme}://{host.address}/")
        for number, request in enumerate(requests, start=1):
            status, body = await self._ask(host, request, own=own)
            if status == 200:
                try:
                    return read_token(body, asyncio.get_running_loop().time())
                except BadChallenge as error:
                    raise _failed(host, str(error)) from None
            if status not in FALL_BACK_STATUSES or number == len(requests):
                text = self._credentials.hide(text_of(status, body))
                raise LoginFailed(Failure(host.address, status, f"no token is given: {text}"))
        raise AssertionError("a realm without a way to ask")

    async def _ask(self, host: RegistryHost, request: TokenRequest, *, own: bool) -> tuple[int, bytes]:
        try:
            if request.form:
                answer = await self._transport.post(host, request.url, request.form, own=own)
            else:
                answer = await self._transport.get(host, request.url, authorization=request.authorization, own=own)
            try:
                return answer.status, await answer.read(_ANSWER_LIMIT_BYTES)
            finally:
                answer.close()
        except Unreachable as error:
            raise LoginFailed(Failure(host.address, 0, f"the token server cannot be reached: {error}")) from error


def _failed(host: RegistryHost, text: str) -> LoginFailed:
    return LoginFailed(Failure(host.address, 401, text))
