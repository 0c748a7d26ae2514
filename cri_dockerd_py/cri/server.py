"""The gRPC server of CRI v1 and v1alpha2 on one endpoint."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.activation import Relay, inherited_listener
from cri_dockerd_py.cri.image_service import ImageService
from cri_dockerd_py.cri.inventory_replies import InventoryReplies
from cri_dockerd_py.cri.methods import MESSAGE_LIMIT_BYTES, Methods, Observe, Trace
from cri_dockerd_py.cri.node import Node
from cri_dockerd_py.cri.runtime_service import RuntimeService
from cri_dockerd_py.cri.sockets import PrivateSocket, SocketPath
from cri_dockerd_py.errors import InvalidArgument, Unavailable

PACKAGES = ("runtime.v1", "runtime.v1alpha2")

_log = logging.getLogger(__name__)
_SOCKET_MODE = 0o660
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


class CriServer:
    """Serves a node's CRI; `endpoint` is `unix://<path>`, an absolute path, or `fd://` for a socket from systemd.

    `private_dir` is for what this service alone connects to. `observe` is asked once for each RPC's name and returns
    what is told of its calls; `trace` puts each call into its caller's trace.
    """

    def __init__(
        self,
        endpoint: str,
        node: Node,
        private_dir: Path,
        observe: Observe | None = None,
        trace: Trace | None = None,
        *,
        socket_mode: int = _SOCKET_MODE,
    ) -> None:
        self._endpoint = endpoint
        self._socket_mode = socket_mode
        self._methods = _methods(node, observe, trace)
        self._server: grpc.aio.Server | None = None
        self._path: SocketPath | None = None
        self._relay: Relay | None = None
        self._private = PrivateSocket(private_dir, "cri.sock")

    async def start(self) -> None:
        """Listen; FailedPrecondition when another process answers there."""
        if self._endpoint.startswith("fd:"):
            await self._start_on_inherited()
        else:
            await self._start_on_path(_unix_path(self._endpoint))
        _log.info("serving CRI at %s", self._endpoint)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, end endless streams, and give calls in flight the time to end; may be called twice."""
        if self._path is not None:
            self._path.withdraw()
        self._methods.end_streams()
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None
        if self._relay is not None:
            await self._relay.stop()
            self._relay = None
        self._private.remove()

    async def _start_on_path(self, path: str) -> None:
        self._path = SocketPath(path, self._socket_mode)
        self._path.prepare()
        await self._listen(str(self._path.temporary))
        self._path.publish()

    async def _start_on_inherited(self) -> None:
        listener = inherited_listener(self._endpoint, os.environ)
        self._private.prepare()
        target = str(self._private.path)
        await self._listen(target)
        self._relay = Relay(listener, target)
        self._relay.start()

    async def _listen(self, path: str) -> None:
        handlers: Any = (self._methods,)
        self._server = grpc.aio.server(handlers=handlers, options=_OPTIONS)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise Unavailable(f"cannot listen at {path}: {error}") from error
        await self._server.start()


def _methods(node: Node, observe: Observe | None, trace: Trace | None) -> Methods:
    replies = InventoryReplies(node.inventory)
    methods = Methods(observe, trace)
    services = {"RuntimeService": RuntimeService(node, replies), "ImageService": ImageService(node, replies)}
    for name, service in services.items():
        methods.add(pb.DESCRIPTOR.services_by_name[name], service, PACKAGES)
    return methods


def _unix_path(endpoint: str) -> str:
    path = endpoint.removeprefix("unix:")
    path = "/" + path.lstrip("/") if path.startswith("/") else path
    if not path.startswith("/") or path.endswith("/"):
        raise InvalidArgument(f"{endpoint!r} is no CRI endpoint: give unix:///<path> or fd://")
    return path
