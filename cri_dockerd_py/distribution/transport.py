"""HTTP with registries: connections of one pull, TLS or not, redirects, and bodies that are read with limits."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Mapping

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from cri_dockerd_py.distribution.rules.credentials import Credentials
from cri_dockerd_py.distribution.rules.hosts import RegistryHost
from cri_dockerd_py.distribution.rules.proxies import proxy_for
from cri_dockerd_py.distribution.rules.tokens import basic
from cri_dockerd_py.distribution.stall import StallWatch
from cri_dockerd_py.distribution.tls import TlsContexts

_REDIRECTS = 10
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_HEADERS_WITHIN_S = 30.0
_READ_BUFFER_BYTES = 1 << 20
_FIELD_LIMIT_BYTES = 32 << 10
_IDENTITY = {"Accept-Encoding": "identity"}


class Unreachable(Exception):
    """A host did not answer, or broke off; the text says how, in few words and without secrets."""

    @property
    def may_pass(self) -> bool:
        """Whether a second try at once makes sense: the host was reached and ended the connection."""
        return isinstance(self.__cause__, ConnectionResetError | aiohttp.ServerDisconnectedError)


class Answer:
    """A registry's answer whose body is not read yet; `close` must be called.

    `secure` is whether it came by TLS, `at_home` whether from the host that was asked rather than from a redirect's,
    `has_body` whether it was no answer to HEAD.
    """

    def __init__(self, response: aiohttp.ClientResponse, watch: StallWatch) -> None:
        self.status = response.status
        self.headers = response.headers
        self.secure = response.url.scheme == "https"
        self.has_body = response.method != "HEAD"
        self.at_home = True
        self._response = response
        self._watch = watch
        self._open = True

    async def piece(self) -> bytes:
        """Return the next bytes of the body, b"" at its end; Unreachable when it breaks off."""
        try:
            data = await self._watch.wait(self._response.content.readany())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(describe(error)) from error
        if data:
            self._watch.moved()
        return data

    async def read(self, limit_bytes: int) -> bytes:
        """Return the body, or its first bytes when it has more than `limit_bytes`: then one byte more than that."""
        body = bytearray()
        while len(body) <= limit_bytes and (data := await self.piece()):
            body += data
        return bytes(body[: limit_bytes + 1])

    def close(self) -> None:
        """Give the connection back, or end it where the body was not read to its end; may be called twice."""
        if self._open:
            self._open = False
            self._watch.closed()
            self._response.release()


class Transport:
    """The connections of one pull; `close` ends them all."""

    def __init__(self, contexts: TlsContexts, watch: StallWatch, user_agent: str) -> None:
        self._contexts = contexts
        self._watch = watch
        self._without_tls: set[str] = set()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": user_agent, **_IDENTITY},
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=_READ_BUFFER_BYTES,
            max_field_size=_FIELD_LIMIT_BYTES,
            max_line_size=_FIELD_LIMIT_BYTES,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def get(
        self,
        host: RegistryHost,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
        own: bool = True,
        pinned: bool = False,
    ) -> Answer:
        """Return the answer to a GET or HEAD of `url`, redirects followed.

        `own` is whether the URL is the host's, which then gets its configured headers; `pinned` is whether the content
        is known by digest, so that a redirect may leave TLS. Authorisation is for the host alone.
        """
        origin = target = URL(url, encoded=True)
        for _ in range(_REDIRECTS + 1):
            at_home = _same_host(origin, target)
            extra = CIMultiDict(host.headers if own and at_home else ())
            extra.update(headers or {})
            if authorization and at_home:
                extra["Authorization"] = authorization
            answer = await self._send(method, host, target, extra, falls_back=own and at_home)
            answer.at_home = at_home
            if answer.status not in _REDIRECT_STATUSES or "Location" not in answer.headers:
                return answer
            answer.close()
            target = _redirected(target, answer.headers["Location"], may_leave_tls=pinned)
        raise Unreachable(f"more than {_REDIRECTS} redirects")

    async def post(self, host: RegistryHost, url: str, form: Mapping[str, str], *, own: bool) -> Answer:
        """Return the answer to a form; it is not sent on to where a redirect points."""
        headers = CIMultiDict(host.headers if own else ())
        return await self._send("POST", host, URL(url, encoded=True), headers, falls_back=own, form=form)

    async def _send(
        self,
        method: str,
        host: RegistryHost,
        url: URL,
        headers: CIMultiDict[str],
        *,
        falls_back: bool,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        if falls_back and host.tries_tls_first and host.address not in self._without_tls and url.scheme == "http":
            try:
                return await self._exchange(method, host, url.with_scheme("https"), headers, form)
            except Unreachable as error:
                if not _may_lack_tls(error.__cause__, url):
                    raise
            self._without_tls.add(host.address)
        return await self._exchange(method, host, url, headers, form)

    async def _exchange(
        self, method: str, host: RegistryHost, url: URL, headers: CIMultiDict[str], form: Mapping[str, str] | None
    ) -> Answer:
        try:
            context = await self._contexts.context(host.tls_towards(url.host or "")) if url.scheme == "https" else True
        except OSError as error:
            raise Unreachable(describe(error)) from error
        self._watch.opened()
        try:
            step = self._request(method, url, headers, form, context, host.dial_timeout_s)
            response = await self._watch.wait(step, host.dial_timeout_s + _HEADERS_WITHIN_S)
            return Answer(response, self._watch)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._watch.closed()
            raise Unreachable(describe(error)) from error
        except BaseException:
            self._watch.closed()
            raise

    async def _request(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        form: Mapping[str, str] | None,
        context: ssl.SSLContext | bool,
        dial_timeout_s: float,
    ) -> aiohttp.ClientResponse:
        proxy = URL(proxy_for(str(url), os.environ) or "")
        login = _proxy_login(proxy)
        if url.scheme == "http":  # there is no tunnel that could be asked for with it
            headers = CIMultiDict([*headers.items(), *login.items()])
        return await self._http.request(
            method,
            url,
            headers=headers,
            data=form,
            allow_redirects=False,
            ssl=context,
            proxy=proxy.with_user(None) if proxy.host else None,
            proxy_headers=login,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=dial_timeout_s),
        )


def describe(error: BaseException) -> str:
    """Return what went wrong below HTTP in the words that people search for."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host}:{error.port}: {_plain(error)}"
    return _plain(error)


def _plain(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: the certificate is not trusted: {_reason(error.certificate_error)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
        return f"tls: {_reason(error)}"
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return "connection reset: the answer broke off"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the answer is not HTTP as it should be: {error.message}"
    number = getattr(error, "errno", None)
    if number is not None:
        return os.strerror(number).lower()
    return str(error) or type(error).__name__


def _reason(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    return getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or type(cause).__name__


def _may_lack_tls(error: BaseException | None, url: URL) -> bool:
    """Whether a failed try with TLS may come from a server that has none."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return False
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError | aiohttp.ServerDisconnectedError | TimeoutError):
        return True
    refused = getattr(error, "errno", None) == errno.ECONNREFUSED
    return isinstance(error, OSError) and (not refused or url.explicit_port is None)


def _same_host(origin: URL, target: URL) -> bool:
    """Whether a redirect stays where it is safe to show the same secrets: there, and not out of TLS."""
    if (origin.host, origin.port) != (target.host, target.port):
        return False
    return target.scheme == origin.scheme or target.scheme == "https"


def _redirected(origin: URL, location: str, *, may_leave_tls: bool) -> URL:
    try:
        target = origin.join(URL(location, encoded=True))
        usable = target.scheme in ("http", "https") and bool(target.host)
    except ValueError:
        usable = False
    if not usable:
        raise Unreachable("it redirects to what is no URL")
    if origin.scheme == "https" and target.scheme == "http" and not may_leave_tls:
        raise Unreachable(f"it redirects from TLS to {target.host} without")
    return target


def _proxy_login(proxy: URL) -> Mapping[str, str]:
    login = Credentials(proxy.user or "", proxy.password or "")
    return {"Proxy-Authorization": basic(login)} if login.username else {}
