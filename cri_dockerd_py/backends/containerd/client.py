"""Containerd's services, in one of its namespaces, over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any, Protocol, TypeVar, cast

from google.protobuf.empty_pb2 import Empty

from cri_dockerd_py._generated.containerd_v1.containers_pb2_grpc import ContainersStub
from cri_dockerd_py._generated.containerd_v1.content_pb2_grpc import ContentStub
from cri_dockerd_py._generated.containerd_v1.diff_pb2_grpc import DiffStub
from cri_dockerd_py._generated.containerd_v1.events_pb2_grpc import EventsStub
from cri_dockerd_py._generated.containerd_v1.images_pb2_grpc import ImagesStub
from cri_dockerd_py._generated.containerd_v1.introspection_pb2_grpc import IntrospectionStub
from cri_dockerd_py._generated.containerd_v1.leases_pb2_grpc import LeasesStub
from cri_dockerd_py._generated.containerd_v1.namespaces_pb2_grpc import NamespacesStub
from cri_dockerd_py._generated.containerd_v1.sandboxes_pb2_grpc import StoreStub
from cri_dockerd_py._generated.containerd_v1.snapshots_pb2_grpc import SnapshotsStub
from cri_dockerd_py._generated.containerd_v1.tasks_pb2_grpc import TasksStub
from cri_dockerd_py._generated.containerd_v1.version_pb2 import VersionResponse
from cri_dockerd_py._generated.containerd_v1.version_pb2_grpc import VersionStub
from cri_dockerd_py.backends.containerd.channel import Channel, Dialogue, Metadata, Observer
from cri_dockerd_py.errors import InvalidArgument

_NAMESPACE = "containerd-namespace"
_LEASE = "containerd-lease"
_PING_WITHIN_S = 3.0

_Request = TypeVar("_Request", contravariant=True)
_Answer = TypeVar("_Answer", covariant=True)
_Item = TypeVar("_Item", covariant=True)


class Method(Protocol[_Request, _Answer]):
    """A stub's method with one answer."""

    def __call__(self, request: _Request, *, timeout: float | None, metadata: Any) -> Awaitable[_Answer]: ...


class StreamMethod(Protocol[_Request, _Item]):
    """A stub's method that answers with a stream."""

    def __call__(self, request: _Request, *, timeout: float | None, metadata: Any) -> AsyncIterator[_Item]: ...


def ignore(call: str, seconds: float, code: str) -> None:
    """Observe nothing."""


class ContainerdClient:
    """Makes calls in one containerd namespace; connects at the first one, and again after every loss.

    A call is one of the stubs' methods: `await client.call(client.content.Info, InfoRequest(digest=…))`. Its errors are
    those of `cri_dockerd_py.errors`: Unavailable when containerd cannot be reached or does not answer in time.
    `observe(call, seconds, code)` hears of each one, by names such as `Content.Info`; codes are those of `outcome_of`.
    """

    def __init__(
        self, endpoint: str, *, namespace: str = "k8s.io", call_within_s: float = 119.0, observe: Observer = ignore
    ) -> None:
        self.namespace = namespace
        self._within_s = call_within_s
        self._use(Channel(_target(endpoint), observe))

    def _use(self, channel: Channel) -> None:
        self._channel = channel
        self.containers = ContainersStub(channel)
        self.content = ContentStub(channel)
        self.diff = DiffStub(channel)
        self.events = EventsStub(channel)
        self.images = ImagesStub(channel)
        self.introspection = IntrospectionStub(channel)
        self.leases = LeasesStub(channel)
        self.namespaces = NamespacesStub(channel)
        self.sandboxes = StoreStub(channel)
        self.snapshots = SnapshotsStub(channel)
        self.tasks = TasksStub(channel)
        self.version = VersionStub(channel)

    @property
    def endpoint(self) -> str:
        """Where containerd listens, `unix:///…`."""
        return self._channel.endpoint

    @property
    def socket(self) -> str:
        """The path of that socket."""
        return self.endpoint.removeprefix("unix://")

    def in_namespace(self, namespace: str) -> ContainerdClient:
        """Return a client for another containerd namespace on the same connection."""
        if namespace == self.namespace:
            return self
        other = ContainerdClient(self.endpoint, namespace=namespace, call_within_s=self._within_s)
        other._use(self._channel)
        return other

    async def close(self) -> None:
        """Break off all calls, those of other namespaces on this connection too; may be called twice."""
        await self._channel.close()

    async def listens(self) -> bool:
        """Return whether somebody listens at the endpoint; if so, the next call connects at once."""
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        writer.close()
        await self._channel.retry_now()
        return True

    async def ping(self) -> VersionResponse:
        """Return containerd's version; Unavailable when it does not answer soon."""
        return await self.call(self.version.Version, Empty(), within_s=_PING_WITHIN_S)

    async def call(
        self, method: Method[_Request, _Answer], request: _Request, *, within_s: float | None = None, lease: str = ""
    ) -> _Answer:
        """Return the answer; with `lease`, what the call makes or touches is held by that lease."""
        timeout = self._within_s if within_s is None else within_s
        return await method(request, timeout=timeout, metadata=self._metadata(lease))

    def stream(
        self,
        method: StreamMethod[_Request, _Item],
        request: _Request,
        *,
        within_s: float | None = None,
        for_ever: bool = False,
        lease: str = "",
    ) -> AsyncGenerator[_Item, None]:
        """Return the answers one after another; close the generator when you leave before its end.

        The whole stream must end within the deadline, but for one that is to last for ever.
        """
        timeout = None if for_ever else self._within_s if within_s is None else within_s
        answers = method(request, timeout=timeout, metadata=self._metadata(lease))
        return cast(AsyncGenerator[_Item, None], answers)

    def write_content(self, *, within_s: float | None = None, lease: str = "") -> Dialogue:
        """Open a stream of WriteContentRequests; for ever without `within_s`, for its user waits for each answer."""
        dialogue: Dialogue = self.content.Write(timeout=within_s, metadata=self._metadata(lease))
        return dialogue

    def _metadata(self, lease: str) -> Metadata:
        own = ((_NAMESPACE, self.namespace),)
        return (*own, (_LEASE, lease)) if lease else own


def _target(endpoint: str) -> str:
    """Return gRPC's form of a unix socket's `unix://<path>` or absolute path."""
    path = endpoint.removeprefix("unix://")
    if not path.startswith("/"):
        raise InvalidArgument(f"{endpoint!r} is no containerd endpoint: give unix:///run/containerd/containerd.sock")
    return f"unix://{path}"
