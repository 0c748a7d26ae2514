"""The streaming server: hands out single-use URLs, and serves each with SPDY or WebSocket."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass

from cri_dockerd_py.errors import FailedPrecondition, Unavailable
from cri_dockerd_py.streaming import jobs
from cri_dockerd_py.streaming.connection import Connection, Handler
from cri_dockerd_py.streaming.front import Front
from cri_dockerd_py.streaming.link import Ending, SessionEnd
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.process import Openers
from cri_dockerd_py.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Request
from cri_dockerd_py.streaming.sessions import KINDS, Session, SessionMaker
from cri_dockerd_py.streaming.tokens import TokenCache

logger = logging.getLogger(__name__)

#: Addresses that stand for all; the URL needs one that can be dialled from this host.
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}

_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class SessionObserver:
    """Hears of each session's begin, and at its end how many bytes came from and went to its client; by its kind."""

    begun: Callable[[str], None] = lambda kind: None
    ended: Callable[[str, int, int], None] = lambda kind, received_bytes, sent_bytes: None


class StreamingServer:
    """Listens while started; a URL that it hands out is good for one session."""

    def __init__(
        self, options: StreamingOptions, openers: Openers, observer: SessionObserver = SessionObserver()
    ) -> None:
        self._options = options
        self._observer = observer
        self._tls = options.tls_context()
        self._sessions = SessionMaker(openers, options)
        self._server: asyncio.Server | None = None
        self._tokens: TokenCache | None = None
        self._base_url = ""
        self._connections: set[Connection] = set()
        self._running: dict[asyncio.Task[None], SessionEnd] = {}

    @property
    def base_url(self) -> str:
        """Where the server listens, as its clients dial it."""
        return self._base_url

    @property
    def session_count(self) -> int:
        """Number of sessions that are being served."""
        return len(self._running)

    async def start(self) -> None:
        """Listen; raises Unavailable when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._tokens = TokenCache(loop.time, self._options.token_ttl_s, self._options.token_limit)
        address = self._options.address or "127.0.0.1"
        try:
            self._server = await loop.create_server(
                self._new_connection,
                address,
                self._options.port,
                backlog=_BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=self._options.head_timeout_s if self._tls else None,
            )
        except OSError as cause:
            raise Unavailable(
                f"the streaming server cannot listen on {address} port {self._options.port}: {cause}; "
                "choose another address or port"
            ) from cause
        port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self._tls else "http"
        self._base_url = f"{scheme}://{url_host(address)}:{port}"
        logger.info("streaming server listens at %s", self._base_url)

    async def stop(self) -> None:
        """Tell all clients that their sessions end, and close; may be called twice."""
        if self._server is not None:
            self._server.close()
        for end in self._running.values():
            end.give(Ending.SHUTDOWN)
        if self._running:
            await asyncio.wait(list(self._running), timeout=self._options.stop_s)
        for connection in list(self._connections):
            await connection.drop()
        await jobs.cancel(list(self._running))
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def exec_url(self, request: ExecRequest) -> str:
        """Return a URL that runs the command once."""
        return self._url(request)

    def attach_url(self, request: AttachRequest) -> str:
        """Return a URL that joins the container once."""
        return self._url(request)

    def port_forward_url(self, request: PortForwardRequest) -> str:
        """Return a URL that forwards ports for one session."""
        return self._url(request)

    def _url(self, request: Request) -> str:
        request.check()
        if self._server is None or self._tokens is None:
            raise FailedPrecondition("the streaming server is not running")
        return f"{self._base_url}/{KINDS[type(request)]}/{self._tokens.insert(request)}"

    def _new_connection(self) -> Connection:
        assert self._tokens is not None
        tokens = self._tokens

        def connected(connection: Connection) -> Handler:
            self._connections.add(connection)
            return Front(connection, tokens, self._sessions, self._begin, self._options)

        return Connection(self._options, connected, self._connections.discard)

    def _begin(self, connection: Connection, session: Session) -> None:
        """Run a session, or the goodbye to a client that gets none, as a task of this server."""
        job = jobs.start(self._run(connection, session), session.name)
        self._running[job] = session.end
        job.add_done_callback(self._running.pop)

    async def _run(self, connection: Connection, session: Session) -> None:
        self._observer.begun(session.kind)
        try:
            await session.work
        except Exception:
            logger.exception("a streaming session failed")
            await connection.drop()
        finally:
            self._observer.ended(session.kind, connection.received_bytes, connection.sent_bytes)


def url_host(address: str) -> str:
    """Return the host of a URL that reaches a listener on `address` from this machine."""
    address = _WILDCARDS.get(address, address)
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    # A zone is part of the address, and its percent sign has to be escaped.
    return f"[{str(ip).replace('%', '%25')}]" if ip.version == 6 else str(ip)
