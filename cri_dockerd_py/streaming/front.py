"""The first bytes of a connection: reads a request's head, and makes a session of it or refuses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cri_dockerd_py.streaming.connection import Connection
from cri_dockerd_py.streaming.link import SessionEnd
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.protocol.http_head import (
    MAX_HEAD_BYTES,
    Answer,
    RequestHead,
    encode_answer,
    parse_head,
    split_head,
)
from cri_dockerd_py.streaming.sessions import KINDS, REFUSED, Session, SessionMaker
from cri_dockerd_py.streaming.tokens import TokenCache

_METHODS = ("GET", "POST")


class Front:
    """The handler of a connection until it is upgraded."""

    def __init__(
        self,
        connection: Connection,
        tokens: TokenCache,
        sessions: SessionMaker,
        begin: Callable[[Connection, Session], None],
        options: StreamingOptions,
    ) -> None:
        self._connection = connection
        self._tokens = tokens
        self._sessions = sessions
        self._begin = begin
        self._received = bytearray()
        self._answered = False
        self._patience = asyncio.get_running_loop().call_later(options.head_timeout_s, self._too_slow)

    def received(self, data: bytes) -> None:
        """Take bytes until the head is complete."""
        if self._answered:
            return
        self._received += data
        parts = split_head(self._received)
        if parts is None:
            if len(self._received) > MAX_HEAD_BYTES:
                self._refuse(Answer(431, text=f"the request's head has more than {MAX_HEAD_BYTES} bytes"))
            return
        head, rest = parts
        request = parse_head(head)
        session = self._open(request) if isinstance(request, RequestHead) else request
        if isinstance(session, Answer):
            self._refuse(session)
            return
        self._answered = True
        self._patience.cancel()
        self._connection.use_handler(session.handler)
        self._begin(self._connection, session)
        if rest:
            session.handler.received(rest)

    def _open(self, request: RequestHead) -> Session | Answer:
        """Use the request's token, whatever becomes of it."""
        if request.method not in _METHODS:
            return Answer(405, [("Allow", ", ".join(_METHODS))], f"method {request.method} is not allowed")
        kind, _, token = request.path.removeprefix("/").partition("/")
        wanted = self._tokens.consume(token) if kind in KINDS.values() else None
        if wanted is None or KINDS[type(wanted)] != kind:
            return Answer(404, text="404 page not found")
        return self._sessions.open(self._connection, request, wanted)

    def _too_slow(self) -> None:
        self._refuse(Answer(408, text="the request's head did not come in time"))

    def _refuse(self, answer: Answer) -> None:
        self._answered = True
        self._patience.cancel()
        goodbye = self._connection.close(encode_answer(answer), half_close=True)
        self._begin(self._connection, Session(REFUSED, "refused request", SessionEnd(), self, goodbye))

    def lost(self) -> None:
        """The client left before it was served."""
        self._answered = True
        self._patience.cancel()

    def idle(self) -> None:
        """The head's own timeout is shorter."""

    def held(self) -> None:
        """A head is never held."""
