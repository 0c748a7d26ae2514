"""The table of RPC methods, built once: each entry parses, calls a service's method, observes and translates errors.

There are no interceptors: they cost more per call than all of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from cri_dockerd_py.cri.status_codes import Failure, failure, with_causes
from cri_dockerd_py.errors import InvalidArgument, ResourceExhausted, Unavailable

#: What callers accept in one message (GEN-03).
MESSAGE_LIMIT_BYTES = 16 << 20

#: Set while a call is served, for the lines of the log that belong to it.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

_log = logging.getLogger(__name__)
_OK = grpc.StatusCode.OK.name
_CANCELLED = grpc.StatusCode.CANCELLED.name
_CALLERS_FAULT = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

Reply = Message | bytes
T = TypeVar("T")


class Context(Protocol):
    """What is used of a call's context."""

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn: ...
    async def write(self, message: bytes) -> None: ...
    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


MethodHandler = Any  # grpc.RpcMethodHandler
Parser = Callable[[bytes], Message]
Handler = Callable[[bytes, Context], Awaitable[T]]


class CallObserver(Protocol):
    """Is told of each call of one method; must be quick."""

    def begin(self) -> None:
        """A call starts."""

    def end(self, seconds: float, code: str) -> None:
        """The call has ended with this gRPC status."""


Observe = Callable[[str], CallObserver]
#: (service/method, the caller's metadata, request id) → a span, which is told the status and the cause of a failure
Trace = Callable[
    [str, Iterable[tuple[str, str | bytes]], str],
    contextlib.AbstractContextManager[Callable[[grpc.StatusCode, str], None]],
]


class Methods:
    """Finds a method's handler by its path; a grpc.GenericRpcHandler in all but name."""

    def __init__(self, observe: Observe | None, trace: Trace | None = None) -> None:
        self._handlers: dict[str, MethodHandler] = {}
        self._observe = observe or _Nobody
        self._trace = trace
        self._streams: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._serial = itertools.count(1)
        self._id_prefix = f"{os.getpid():x}"

    def add(self, descriptor: ServiceDescriptor, service: object, packages: Iterable[str]) -> None:
        """Register each RPC of a service under each package name; the service has a method for every one."""
        for method in descriptor.methods:
            handler = self._handler(method, getattr(service, method.name))
            for package in packages:
                self._handlers[f"/{package}.{descriptor.name}/{method.name}"] = handler

    def service(self, handler_call_details: Any) -> MethodHandler | None:
        """Return the handler of a method's path, None when there is none (grpc then answers Unimplemented)."""
        return self._handlers.get(handler_call_details.method)

    def end_streams(self) -> None:
        """End the streams that would go on for ever; their callers are told to come again."""
        self._stopping = True
        for task in self._streams:
            task.cancel()

    def _handler(self, descriptor: MethodDescriptor, method: Callable[[Any], Any]) -> MethodHandler:
        parse = _parser(descriptor)
        if descriptor.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._guarded(descriptor, self._stream(parse, method)))
        if inspect.iscoroutinefunction(method):
            return grpc.unary_unary_rpc_method_handler(self._guarded(descriptor, _waiting(parse, method)))
        return grpc.unary_unary_rpc_method_handler(self._guarded(descriptor, _at_once(parse, method)))

    def _guarded(self, method: MethodDescriptor, run: Handler[T]) -> Handler[T]:
        """Return `run` with an id, observed, and with its errors told to the caller."""
        name = method.name
        if self._trace is not None:
            run = _traced(self._trace, method, run)
        calls = self._observe(name)

        async def answer(raw: bytes, context: Context) -> T:
            began = time.perf_counter()
            code = _OK
            REQUEST_ID.set(self._new_id())
            calls.begin()
            try:
                return await run(raw, context)
            except (Exception, asyncio.CancelledError) as error:
                if _is_callers_wish(error):
                    code = _CANCELLED
                    raise
                refused = _explain(error, name, time.perf_counter() - began)
                code = refused.code.name
                await context.abort(refused.code, refused.details)
            finally:
                calls.end(time.perf_counter() - began, code)

        return answer

    def _stream(self, parse: Parser, method: Callable[[Any], AsyncGenerator[Reply, None]]) -> Handler[None]:
        """Return a handler of a method that yields its replies."""

        async def run(raw: bytes, context: Context) -> None:
            with self._endable():
                async with contextlib.aclosing(method(parse(raw))) as replies:
                    async for reply in replies:
                        await context.write(_reply_bytes(reply))

        return run

    @contextlib.contextmanager
    def _endable(self) -> Any:
        """Turn a cancellation by `end_streams` into an answer."""
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            task.uncancel()
            raise Unavailable("the service is stopping; call again when it is back") from None
        finally:
            self._streams.discard(task)

    def _new_id(self) -> str:
        return f"{self._id_prefix}-{next(self._serial)}"


class _Nobody:
    """An observer that does not look."""

    def __init__(self, method: str) -> None:
        pass

    def begin(self) -> None:
        pass

    def end(self, seconds: float, code: str) -> None:
        pass


def _traced(trace: Trace, method: MethodDescriptor, run: Handler[T]) -> Handler[T]:
    """Return `run` in a span of its caller's trace."""
    path = f"{method.containing_service.full_name}/{method.name}"

    async def traced(raw: bytes, context: Context) -> T:
        with trace(path, context.invocation_metadata() or (), REQUEST_ID.get()) as fail:
            try:
                return await run(raw, context)
            except (Exception, asyncio.CancelledError) as error:
                wish = _is_callers_wish(error)
                code = grpc.StatusCode.CANCELLED if wish else failure(error, method.name, REQUEST_ID.get()).code
                fail(code, with_causes(error))
                raise

    return traced


def _at_once(parse: Parser, method: Callable[[Any], Reply]) -> Handler[bytes]:
    """Return a handler of a method that answers from memory."""

    async def run(raw: bytes, context: Context) -> bytes:
        return _reply_bytes(method(parse(raw)))

    return run


def _waiting(parse: Parser, method: Callable[[Any], Awaitable[Reply]]) -> Handler[bytes]:
    """Return a handler of a method that may take its time and be cancelled."""

    async def run(raw: bytes, context: Context) -> bytes:
        return _reply_bytes(await method(parse(raw)))

    return run


def _is_callers_wish(error: BaseException) -> bool:
    """Whether this is the cancellation of the call, and not of something inside that the call waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _explain(error: BaseException, name: str, duration_s: float) -> Failure:
    """Return what to answer, and write the one line that a failed call gets in the log (which shows REQUEST_ID)."""
    refused = failure(error, name, REQUEST_ID.get())
    fields = {
        "method": name,
        "code": refused.code.name,
        "duration_ms": round(duration_s * 1e3, 1),
        "cause": with_causes(error),
    }
    level = logging.INFO if refused.code in _CALLERS_FAULT else logging.WARNING
    if refused.unforeseen:
        _log.error("RPC failed", exc_info=error, extra={"fields": fields})
    else:
        _log.log(level, "RPC failed", extra={"fields": fields})
    return refused


def _parser(descriptor: MethodDescriptor) -> Parser:
    kind = GetMessageClass(descriptor.input_type)
    parse_message = kind.FromString

    def parse(raw: bytes) -> Message:
        try:
            return parse_message(raw)
        except DecodeError as error:
            raise InvalidArgument(
                f"the request is no valid {kind.DESCRIPTOR.name}: "
                "check that the client speaks CRI v1 and sends text as UTF-8"
            ) from error

    return parse


def _reply_bytes(reply: Reply) -> bytes:
    raw = reply if isinstance(reply, bytes) else reply.SerializeToString()
    if len(raw) > MESSAGE_LIMIT_BYTES:
        raise ResourceExhausted(
            f"the reply has {len(raw)} bytes, and callers accept {MESSAGE_LIMIT_BYTES}: "
            "ask with a filter, or use the streaming RPC of the same list"
        )
    return raw
