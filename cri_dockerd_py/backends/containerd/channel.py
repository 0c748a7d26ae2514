"""What the generated stubs take for a gRPC channel: methods that know their names and raise errors of ours.

The connection is made at the first call and again by itself after it was lost: a call that meets a containerd that is
away fails at once, and soon after it is back calls succeed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import grpc.aio

from cri_dockerd_py.backends.containerd.api_errors import error_for, lost
from cri_dockerd_py.errors import OK, CriError, outcome_of

#: What containerd sends and takes by default.
MESSAGE_LIMIT_BYTES = 16 << 20
# The least time between attempts to connect is also the most that one may take.
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

#: Hears of every call: its name such as `Content.Info`, its seconds, and its outcome as `outcome_of` names it.
Observer = Callable[[str, float, str], None]
Metadata = tuple[tuple[str, str], ...]
_Codec = Callable[..., Any]


class Channel:
    """One connection to containerd, shared by all that speak with it."""

    def __init__(self, endpoint: str, observe: Observer) -> None:
        self.endpoint = endpoint
        self.observe = observe
        self._grpc: grpc.aio.Channel | None = None

    @property
    def connection(self) -> grpc.aio.Channel:
        """The connection of now; asking for it makes it."""
        if self._grpc is None:
            self._grpc = grpc.aio.insecure_channel(self.endpoint, options=_OPTIONS)
        return self._grpc

    def has(self, connection: grpc.aio.Channel) -> bool:
        """Whether this is still the connection."""
        return self._grpc is connection

    async def close(self) -> None:
        """Break off all calls; may be called twice, and calls made later connect anew."""
        channel, self._grpc = self._grpc, None
        if channel is not None:
            await channel.close()

    async def retry_now(self) -> None:
        """Give up a connection that failed and waits before it tries again: it is known that there is a listener."""
        if self._grpc is not None and self._grpc.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await self.close()

    def unary_unary(self, path: str, request_serializer: _Codec, response_deserializer: _Codec, **_: object) -> Unary:
        """Return a method with one answer; called by generated code, as its two siblings are."""
        return Unary(self, path, request_serializer, response_deserializer)

    def unary_stream(self, path: str, request_serializer: _Codec, response_deserializer: _Codec, **_: object) -> Stream:
        """Return a method whose answer is a stream."""
        return Stream(self, path, request_serializer, response_deserializer)

    def stream_stream(
        self, path: str, request_serializer: _Codec, response_deserializer: _Codec, **_: object
    ) -> Conversation:
        """Return a method that is a stream both ways; what is sent may be serialized already."""

        def serialize(request: Any) -> bytes:
            return request if isinstance(request, bytes) else bytes(request_serializer(request))

        return Conversation(self, path, serialize, response_deserializer)


class _Method:
    def __init__(self, channel: Channel, path: str, serialize: _Codec, deserialize: _Codec) -> None:
        service, _, method = path.rpartition("/")
        self.name = f"{service.rpartition('.')[2]}.{method}"
        self._channel = channel
        self._path = path
        self._codecs = {"request_serializer": serialize, "response_deserializer": deserialize}

    def _watch(self, timeout: float) -> _Watch:
        return _Watch(self._channel, self.name, timeout)


class _Watch:
    """Around a call or a part of it: translates what ends it, and tells the observer when the whole has ended.

    A stream that its user leaves has succeeded, unless something else was noted before.
    """

    def __init__(self, channel: Channel, name: str, within_s: float) -> None:
        self._channel = channel
        self._connection = channel.connection
        self._name = name
        self._within_s = within_s
        self._began = time.monotonic()
        self._code = OK
        self._over = False

    def error(self, error: grpc.aio.AioRpcError) -> CriError:
        took_s = time.monotonic() - self._began
        translated = error_for(self._name, self._channel.endpoint, error, self._within_s, took_s)
        self._code = outcome_of(translated)
        return translated

    def cancelled(self, error: asyncio.CancelledError) -> None:
        """Raise Unavailable when it was the channel that was closed under the call, and not the caller who left."""
        self._code = outcome_of(error)
        task = asyncio.current_task()
        if self._channel.has(self._connection) or task is None or task.cancelling():
            return
        broken = lost(self._name, self._channel.endpoint, "the connection was closed")
        self._code = outcome_of(broken)
        raise broken from error

    def end(self) -> None:
        if not self._over:
            self._over = True
            self._channel.observe(self._name, time.monotonic() - self._began, self._code)


class Unary(_Method):
    """A method with one answer."""

    async def __call__(self, request: Any, *, timeout: float, metadata: Metadata) -> Any:
        watch = self._watch(timeout)
        try:
            call = self._channel.connection.unary_unary(self._path, **self._codecs)
            return await call(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise watch.error(error) from error
        except asyncio.CancelledError as error:
            watch.cancelled(error)
            raise
        finally:
            watch.end()


class Stream(_Method):
    """A method whose answer is a stream; it ends on the server when the iterator is closed."""

    async def __call__(self, request: Any, *, timeout: float | None, metadata: Metadata) -> AsyncGenerator[Any, None]:
        watch = self._watch(timeout or 0.0)
        call = self._channel.connection.unary_stream(self._path, **self._codecs)(
            request, timeout=timeout, metadata=metadata
        )
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise watch.error(error) from error
        except asyncio.CancelledError as error:
            watch.cancelled(error)
            raise
        finally:
            call.cancel()
            watch.end()


class Conversation(_Method):
    """A method that is a stream both ways."""

    def __call__(self, *, timeout: float | None, metadata: Metadata) -> Dialogue:
        call = self._channel.connection.stream_stream(self._path, **self._codecs)(timeout=timeout, metadata=metadata)
        return Dialogue(call, self._watch(timeout or 0.0))


class Dialogue:
    """One open stream both ways; `close` it whatever happens."""

    def __init__(self, call: Any, watch: _Watch) -> None:
        self._call = call
        self._watch = watch

    async def send(self, request: Any) -> None:
        """Send, and wait for room."""
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._reason(error) from error
        except asyncio.CancelledError as error:
            self._watch.cancelled(error)
            raise

    async def receive(self) -> Any:
        """Return the next answer, None after the last one."""
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._watch.error(error) from error
        except asyncio.CancelledError as error:
            self._watch.cancelled(error)
            raise
        return None if answer is grpc.aio.EOF else answer

    async def end(self) -> None:
        """Send nothing more, and return when the server has ended it too."""
        await self._call.done_writing()
        while await self.receive() is not None:
            pass

    def close(self) -> None:
        """Break it off if it goes on; may be called twice."""
        self._call.cancel()
        self._watch.end()

    async def _reason(self, error: BaseException) -> CriError:
        """Return why nothing can be sent any more, which the call itself knows."""
        if isinstance(error, grpc.aio.AioRpcError):
            return self._watch.error(error)
        code, text = await self._call.code(), await self._call.details()
        ended = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)
        return self._watch.error(ended)
