"""The admin socket: mode 0600 in a directory of root's, and every caller is asked for its user id as well.

grpcio does not tell who has connected, so connections are accepted here, looked at, and passed on byte for byte to a
private socket of the gRPC server.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.admin.node import AdminNode
from cri_dockerd_py.admin.service import AdminService
from cri_dockerd_py.cri.activation import Relay
from cri_dockerd_py.cri.methods import MESSAGE_LIMIT_BYTES, Methods, Observe
from cri_dockerd_py.cri.sockets import PrivateSocket, SocketPath

PACKAGE = "cri_dockerd_py.admin.v1"

_LOG = logging.getLogger(__name__)
_SOCKET_MODE = 0o600
_DIRECTORY_MODE = 0o700
_BACKLOG = 16
_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.so_reuseport", 0),
)


class AdminServer:
    """Serves the admin socket at `path`; `private_dir` is for what this service alone connects to."""

    def __init__(self, path: Path, node: AdminNode, private_dir: Path, observe: Observe | None = None) -> None:
        self._path = SocketPath(str(path), _SOCKET_MODE)
        self._methods = Methods(observe)
        self._methods.add(pb.DESCRIPTOR.services_by_name["Admin"], AdminService(node), (PACKAGE,))
        self._private = PrivateSocket(private_dir, "admin.sock")
        self._server: grpc.aio.Server | None = None
        self._relay: Relay | None = None

    async def start(self) -> None:
        """Listen; FailedPrecondition when another process answers there."""
        self._path.prepare(_DIRECTORY_MODE)
        self._private.prepare()
        target = str(self._private.path)
        handlers: Any = (self._methods,)
        self._server = grpc.aio.server(handlers=handlers, options=_OPTIONS)
        self._server.add_insecure_port(f"unix:{target}")
        await self._server.start()
        self._relay = Relay(self._listen(), target, _is_root)
        self._relay.start()
        _LOG.info("admin socket at %s", self._path.path)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls and end streams; may be called twice."""
        self._path.withdraw()
        self._methods.end_streams()
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None
        if self._relay is not None:
            await self._relay.stop()
            self._relay = None
        self._private.remove()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind(str(self._path.temporary))
        # Nobody can connect before `listen`, and from then on only root can.
        self._path.temporary.chmod(_SOCKET_MODE)
        listener.listen(_BACKLOG)
        self._path.publish()
        return listener


def _is_root(connection: socket.socket) -> bool:
    """Whether the caller is root, or the user that this service runs as."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    if uid in (0, os.geteuid()):
        return True
    _LOG.warning("refused a connection to the admin socket by process %d of user %d: it is for root", pid, uid)
    return False
