"""Calls to the admin socket of a running service, with errors that a person can act on."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from cri_dockerd_py._generated.admin_v1.admin_pb2_grpc import AdminStub
from cri_dockerd_py.cli.setting_flags import load
from cri_dockerd_py.errors import (
    CriError,
    DeadlineExceeded,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
    Unimplemented,
)

Result = TypeVar("Result")
Message = TypeVar("Message")
_CALL_WITHIN_S = 120.0
_MESSAGE_LIMIT_BYTES = 16 << 20
_KINDS: dict[grpc.StatusCode, type[CriError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}
#: What gRPC says by itself, and no service of ours does.
_GRPCS_OWN_DEADLINE = "Deadline Exceeded"
_GRPCS_OWN_UNIMPLEMENTED = "Method not found!"
_GRPCS_OWN_ENDS = ("Socket closed", "Stream removed", "GOAWAY", "recvmsg", "sendmsg", "Connection ")
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    # A service that was away is found again at once by those who follow it, not after gRPC's two minutes.
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Admin:
    """The service behind one socket."""

    def __init__(self, channel: grpc.aio.Channel, path: Path, within_s: float = _CALL_WITHIN_S) -> None:
        self.stub = AdminStub(channel)
        self._path = path
        self._within_s = within_s

    async def call(self, method: Callable[..., Awaitable[Message]], request: Any) -> Message:
        """Return the reply, or raise what the service answered."""
        try:
            return await method(request, timeout=self._within_s)
        except grpc.aio.AioRpcError as error:
            raise self._explained(error) from error

    async def first(self, method: Callable[..., AsyncIterator[Message]], request: Any) -> Message:
        """Return the first reply of those that would follow, or raise what the service answered."""
        try:
            async for message in method(request, timeout=self._within_s):
                return message
        except grpc.aio.AioRpcError as error:
            raise self._explained(error) from error
        raise Unavailable(f"the service at {self._path} has ended its answer before it began: call again")

    async def stream(self, method: Callable[..., AsyncIterator[Message]], request: Any) -> AsyncIterator[Message]:
        """Yield the replies, or raise what the service answered."""
        try:
            async for message in method(request):
                yield message
        except grpc.aio.AioRpcError as error:
            raise self._explained(error) from error

    def _explained(self, error: grpc.aio.AioRpcError) -> CriError:
        details = error.details() or error.code().name
        if error.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect" in details:
            return _not_running(self._path)
        if error.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(_GRPCS_OWN_ENDS):
            return Unavailable(
                f"the service at {self._path} has ended while it was asked ({details}); "
                "`cri-dockerd-py migrate status` tells what has come of it once it is back"
            )
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and details == _GRPCS_OWN_DEADLINE:
            return DeadlineExceeded(
                f"the service at {self._path} has not answered within {self._within_s:g} seconds; "
                "`cri-dockerd-py migrate status` and its log tell what it is at"
            )
        if error.code() is grpc.StatusCode.UNIMPLEMENTED and details == _GRPCS_OWN_UNIMPLEMENTED:
            return Unimplemented(
                f"the service at {self._path} is of another version than this command, and cannot do this: "
                "restart it (systemctl restart cri-dockerd-py)"
            )
        return _KINDS.get(error.code(), CriError)(details)


def run(arguments: argparse.Namespace, verb: Callable[[Admin], Coroutine[Any, Any, Result]]) -> Result:
    """Run a verb with a connection to the service that the settings name."""
    return run_at(load(arguments).settings.admin_socket, verb)


def run_at(path: Path, verb: Callable[[Admin], Coroutine[Any, Any, Result]]) -> Result:
    """Run a verb with a connection to the service at a socket."""
    _check_reachable(path)
    return asyncio.run(_run(path, verb))


async def _run(path: Path, verb: Callable[[Admin], Coroutine[Any, Any, Result]]) -> Result:
    async with connected(path) as admin:
        return await verb(admin)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Admin]:
    """Use the service behind the socket, which is looked for when it is first asked."""
    async with grpc.aio.insecure_channel(f"unix:{path}", options=_OPTIONS) as channel:
        yield Admin(channel, path)


def _check_reachable(path: Path) -> None:
    try:
        path.stat()
    except FileNotFoundError:
        raise _not_running(path) from None
    except PermissionError:
        raise PermissionDenied(f"{path} is for root: try again with sudo") from None
    if not os.access(path, os.W_OK):
        raise PermissionDenied(f"{path} is for root: try again with sudo")


def _not_running(path: Path) -> Unavailable:
    return Unavailable(
        f"no service answers at {path}: start it (systemctl start cri-dockerd-py), "
        "or say where it is with --admin-endpoint"
    )
