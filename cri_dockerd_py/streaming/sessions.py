"""Which session serves a request, by the transport and protocol that its client speaks."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from cri_dockerd_py.streaming.command_session import CommandSession
from cri_dockerd_py.streaming.connection import Connection, Handler
from cri_dockerd_py.streaming.link import SessionEnd
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.process import Openers
from cri_dockerd_py.streaming.protocol import port_forward, remote_command
from cri_dockerd_py.streaming.protocol.handshake import SPDY, negotiate
from cri_dockerd_py.streaming.protocol.http_head import Accepted, Answer, RequestHead, encode_answer
from cri_dockerd_py.streaming.protocol.websocket_channels import COMMAND_PROTOCOLS, PORT_PROTOCOLS, TUNNEL_PROTOCOL
from cri_dockerd_py.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Request
from cri_dockerd_py.streaming.spdy_command import SpdyCommand
from cri_dockerd_py.streaming.spdy_ports import SpdyPorts
from cri_dockerd_py.streaming.tunnel import Tunnel
from cri_dockerd_py.streaming.websocket_command import WebSocketCommand
from cri_dockerd_py.streaming.websocket_ports import WebSocketPorts

#: The first part of a URL's path.
KINDS: dict[type[Request], str] = {ExecRequest: "exec", AttachRequest: "attach", PortForwardRequest: "portforward"}
#: The kind of what is served to a client that gets no session.
REFUSED = "refused"

#: Channels are numbered by one byte, in base64 protocols by one character.
_MAX_PORTS = 127
_MAX_BASE64_PORTS = 39


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is ready to run: who takes its bytes, and what serves it. `kind` is one of `KINDS`' values."""

    kind: str
    name: str
    end: SessionEnd
    handler: Handler
    work: Coroutine[Any, Any, None]


class SessionMaker:
    """Opens sessions on connections whose request is known."""

    def __init__(self, openers: Openers, options: StreamingOptions) -> None:
        self._openers = openers
        self._options = options

    def open(self, connection: Connection, head: RequestHead, request: Request) -> Session | Answer:
        """Upgrade the connection, or return why not."""
        if isinstance(request, PortForwardRequest):
            accepted = negotiate(head, (port_forward.SPDY_PROTOCOL,), (*PORT_PROTOCOLS, TUNNEL_PROTOCOL))
        else:
            accepted = negotiate(head, remote_command.SPDY_PROTOCOLS, COMMAND_PROTOCOLS)
        if isinstance(accepted, Answer):
            return accepted
        if isinstance(request, PortForwardRequest):
            return self._open_ports(connection, accepted, request)
        return self._open_command(connection, accepted, request)

    def _open_command(
        self, connection: Connection, accepted: Accepted, request: ExecRequest | AttachRequest
    ) -> Session:
        streams, container_id = request.streams, request.container_id
        flags = (streams.tty, streams.stdin, streams.stdout, streams.stderr)
        command = request.command if isinstance(request, ExecRequest) else None
        if command is None:
            opener = partial(self._openers.attach, container_id, *flags)
        else:
            opener = partial(self._openers.exec, container_id, command, *flags)
        connection.send_now(encode_answer(accepted.answer))
        wire: SpdyCommand | WebSocketCommand
        if accepted.transport == SPDY:
            wire = SpdyCommand(connection, accepted.protocol, streams)
        else:
            wire = WebSocketCommand(connection, COMMAND_PROTOCOLS[accepted.protocol], streams)
        session = CommandSession(wire, opener, streams, command, self._options)
        kind = KINDS[type(request)]
        return Session(kind, f"{kind} in {container_id}", wire.end, wire, session.run())

    def _open_ports(self, connection: Connection, accepted: Accepted, request: PortForwardRequest) -> Session | Answer:
        tunnelled = accepted.protocol == TUNNEL_PROTOCOL
        by_channels = accepted.transport != SPDY and not tunnelled
        if by_channels:
            most = _MAX_BASE64_PORTS if PORT_PROTOCOLS[accepted.protocol].base64 else _MAX_PORTS
            if not 0 < len(request.ports) <= most:
                return Answer(400, text=f"this protocol forwards 1 to {most} ports, not {len(request.ports)}")
        connection.send_now(encode_answer(accepted.answer))
        sandbox_id, opener = request.pod_sandbox_id, self._openers.port
        session: SpdyPorts | Tunnel | WebSocketPorts
        if tunnelled:
            session = Tunnel(connection, sandbox_id, opener, self._options)
        elif by_channels:
            protocol = PORT_PROTOCOLS[accepted.protocol]
            session = WebSocketPorts(connection, protocol, request, opener, self._options)
        else:
            session = SpdyPorts(connection, sandbox_id, opener, self._options)
        return Session(KINDS[PortForwardRequest], f"ports of {sandbox_id}", session.end, session, session.run())
