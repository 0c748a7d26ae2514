"""Requests that wait for their one use, behind tokens that cannot be guessed."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from cri_dockerd_py.errors import ResourceExhausted
from cri_dockerd_py.streaming.requests import Request

_TOKEN_BYTES = 16


class TokenCache:
    """Keeps requests until they are used or too old; whoever holds a token may use it, once."""

    def __init__(self, clock: Callable[[], float], ttl_s: float, limit: int) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._limit = limit
        #: In the order of their age, because all live equally long.
        self._requests: dict[str, tuple[float, Request]] = {}

    def insert(self, request: Request) -> str:
        """Return a new token for the request."""
        self._sweep()
        if len(self._requests) >= self._limit:
            raise ResourceExhausted(
                "maximum number of in-flight requests exceeded: "
                f"{self._limit} streaming URLs are unused, wait up to {self._ttl_s:.0f} s"
            )
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._requests[token] = (self._clock() + self._ttl_s, request)
        return token

    def consume(self, token: str) -> Request | None:
        """Return the token's request and forget it; None for one that is unknown, used or too old."""
        expires_at, request = self._requests.pop(token, (0.0, None))
        return request if self._clock() < expires_at else None

    def _sweep(self) -> None:
        now = self._clock()
        while self._requests:
            oldest = next(iter(self._requests))
            if now < self._requests[oldest][0]:
                return
            del self._requests[oldest]
