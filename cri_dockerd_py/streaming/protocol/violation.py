"""What a peer did that its protocol does not allow."""

from __future__ import annotations

from dataclasses import dataclass


class ProtocolViolation(Exception):
    """The peer's bytes cannot be understood any further; `close_code` is WebSocket's word for it."""

    def __init__(self, reason: str, close_code: int = 1002) -> None:
        super().__init__(reason)
        self.close_code = close_code


@dataclass(frozen=True, slots=True)
class Violated:
    """The last event of a connection that broke its protocol; whatever follows it is not looked at."""

    reason: str
    close_code: int = 1002
