"""The choice between SPDY and WebSocket and among their sub-protocols, from a request's head alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence

from cri_dockerd_py.streaming.protocol.http_head import Accepted, Answer, RequestHead

SPDY = "SPDY/3.1"
WEBSOCKET = "websocket"

_SPDY_OFFER = "x-stream-protocol-version"
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def negotiate(request: RequestHead, spdy: Sequence[str], websocket: Collection[str]) -> Accepted | Answer:
    """Accept the first protocol that the client offers and we know, or say why there is none."""
    if request.method not in ("GET", "POST"):
        return Answer(405, [("Allow", "GET, POST")], f"method {request.method} is not allowed, use GET or POST")
    upgrade = ",".join(request.lines("upgrade")).lower()
    upgrades = any("upgrade" in line.lower() for line in request.lines("connection"))
    if upgrades and upgrade.strip() == WEBSOCKET:
        return _negotiate_websocket(request, websocket)
    return _negotiate_spdy(request, spdy, upgrades and SPDY.lower() in upgrade)


def _negotiate_spdy(request: RequestHead, known: Sequence[str], upgrades: bool) -> Accepted | Answer:
    if not upgrades:
        return Answer(400, text=f"unable to upgrade: the request has no Connection: Upgrade with Upgrade: {SPDY}")
    offered = request.words(_SPDY_OFFER)
    if not offered:
        return Answer(400, text="unable to upgrade: the header X-Stream-Protocol-Version is required")
    chosen = next((name for name in offered if name in known), None)
    if chosen is None:
        accepted = [("X-Accepted-Stream-Protocol-Versions", name) for name in known]
        return Answer(403, accepted, _no_common_protocol(offered, known))
    headers = [("Connection", "Upgrade"), ("Upgrade", SPDY), ("X-Stream-Protocol-Version", chosen)]
    return Accepted(SPDY, chosen, Answer(101, headers))


def _negotiate_websocket(request: RequestHead, known: Collection[str]) -> Accepted | Answer:
    if request.method != "GET":
        return Answer(405, [("Allow", "GET")], "a WebSocket is opened with GET")
    if request.lines("sec-websocket-version") != ["13"]:
        return Answer(400, [("Sec-WebSocket-Version", "13")], "the WebSocket version has to be 13")
    key = "".join(request.lines("sec-websocket-key"))
    if not key:
        return Answer(400, text="the header Sec-WebSocket-Key is missing")
    offered = request.words("sec-websocket-protocol")
    chosen = next((name for name in offered if name in known), None) if offered else ""
    if chosen is None:
        return Answer(403, text=_no_common_protocol(offered, [name for name in known if name]))
    digest = hashlib.sha1(key.encode("latin-1") + _WEBSOCKET_GUID, usedforsecurity=False).digest()
    headers = [
        ("Upgrade", WEBSOCKET),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
    ]
    if chosen:
        headers.append(("Sec-WebSocket-Protocol", chosen))
    return Accepted(WEBSOCKET, chosen, Answer(101, headers))


def _no_common_protocol(offered: Sequence[str], known: Collection[str]) -> str:
    return (
        "unable to upgrade: unable to negotiate protocol: "
        f"client supports [{' '.join(offered)}], server accepts [{' '.join(known)}]"
    )
