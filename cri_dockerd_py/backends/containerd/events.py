"""Containerd's event stream as engine events."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.any_pb2 import Any as AnyValue
from google.protobuf.message import DecodeError

from cri_dockerd_py._generated.containerd_v1.event_messages_pb2 import (
    ContainerCreate,
    ContainerDelete,
    TaskExit,
    TaskOOM,
    TaskStart,
)
from cri_dockerd_py._generated.containerd_v1.events_pb2 import PublishRequest, SubscribeRequest
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Envelope
from cri_dockerd_py.backends.base import (
    Connected,
    Disconnected,
    EngineEvent,
    EngineSnapshot,
    EventSource,
    ImagesChanged,
    ObjectAppeared,
    ObjectGone,
    ProcessExited,
    ProcessStarted,
)
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.execs import Execs
from cri_dockerd_py.backends.containerd.exits import Exits
from cri_dockerd_py.backends.containerd.objects import Objects
from cri_dockerd_py.backends.containerd.oom_kills import OomKills
from cri_dockerd_py.backends.containerd.tasks import time_ns
from cri_dockerd_py.errors import CriError, Unavailable

_ECHO_TOPIC = "/cri-dockerd-py/subscribed"
_ECHO_TYPE = "io.cri-dockerd-py.Subscribed"
_ECHO_EVERY_S = 0.1
_ECHO_WITHIN_S = 5.0
_LISTENS_EVERY_S = 0.1
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0
#: Of tasks only what is looked at below: the others are as many again.
_TOPICS = (
    "^/(tasks/(exit|start|oom)|containers/(create|delete)|images/(create|update|delete)|cri-dockerd-py/subscribed)$"
)


@dataclass(frozen=True, slots=True)
class _End:
    """The end of one stream."""

    stream: str
    error: CriError


class ContainerdEvents(EventSource):
    """`prepare` is called when containerd is reached again, before anything else is asked of it."""

    def __init__(
        self,
        client: ContainerdClient,
        prepare: Callable[[], Awaitable[None]],
        snapshot: Callable[[], Awaitable[EngineSnapshot]],
        objects: Objects,
        exits: Exits,
        execs: Execs,
        ooms: OomKills,
    ) -> None:
        self._client = client
        self._prepare = prepare
        self._snapshot = snapshot
        self._objects = objects
        self._exits = exits
        self._execs = execs
        self._ooms = ooms
        self._news: asyncio.Queue[EngineEvent | _End] = asyncio.Queue()
        exits.tell = self._ended
        objects.on_gone = self._gone

    async def snapshot(self) -> EngineSnapshot:
        """Return all that is ours."""
        return await self._snapshot()

    async def ping(self) -> None:
        """Return when containerd answers."""
        await self._client.ping()

    async def events(self) -> AsyncIterator[EngineEvent]:
        """Yield events for ever; after each loss of the stream Disconnected, then Connected when it is back."""
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                async for event in self._one_stream():
                    yield event
                    retry_s = _FIRST_RETRY_S
                reason = "containerd ended the event stream"
            except CriError as error:
                reason = str(error)
            yield Disconnected(reason)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _LAST_RETRY_S)
            # What ended meanwhile is told by shims soon after containerd is back, and only once.
            while True:
                if await self._client.listens():
                    break
                await asyncio.sleep(_LISTENS_EVERY_S)

    async def _one_stream(self) -> AsyncIterator[EngineEvent]:
        await self._client.ping()
        await self._prepare()
        echo = secrets.token_hex(16)
        heard = asyncio.Event()
        async with _running(self._read(echo, heard), "containerd events") as reader:
            await self._wait_for_echo(echo, heard, reader)
            yield Connected()
            async with _running(self._execs.reconcile(), "ends of execs that were missed"):
                while True:
                    item = await self._news.get()
                    if not isinstance(item, _End):
                        yield item
                    elif item.stream == echo:
                        raise item.error

    async def _wait_for_echo(self, echo: str, heard: asyncio.Event, reader: asyncio.Task[None]) -> None:
        """Publish until the stream says so itself: from then on nothing is missed."""
        request = PublishRequest(topic=_ECHO_TOPIC, event=AnyValue(type_url=_ECHO_TYPE, value=echo.encode()))
        deadline = asyncio.get_running_loop().time() + _ECHO_WITHIN_S
        while not heard.is_set():
            if reader.done() or asyncio.get_running_loop().time() > deadline:
                raise Unavailable("containerd's event stream tells nothing")
            await self._client.call(self._client.events.Publish, request)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ECHO_EVERY_S):
                    await heard.wait()

    async def _read(self, echo: str, heard: asyncio.Event) -> None:
        """Put events in order; the end of a process takes a while to be dealt with, and is put by whoever does that."""
        error: CriError = Unavailable("containerd ended the event stream")
        try:
            filters = [f'namespace=="{self._client.namespace}",topic~="{_TOPICS}"']
            request = SubscribeRequest(filters=filters)
            stream = self._client.stream(self._client.events.Subscribe, request, for_ever=True)
            async with contextlib.aclosing(stream) as envelopes:
                async for envelope in envelopes:
                    if envelope.topic == _ECHO_TOPIC:
                        if envelope.event.value == echo.encode():
                            heard.set()
                    else:
                        self._take(envelope)
        except CriError as lost:
            error = lost
        except DecodeError as nonsense:
            error = Unavailable(f"containerd's event stream makes no sense: {nonsense}")
        finally:
            self._news.put_nowait(_End(echo, error))

    def _take(self, envelope: Envelope) -> None:
        content = envelope.event.value
        match envelope.topic:
            case "/tasks/exit":
                self._exited(TaskExit.FromString(content))
            case "/tasks/start":
                self._started(TaskStart.FromString(content), time_ns(envelope.timestamp))
            case "/tasks/oom":
                self._ooms.tell(TaskOOM.FromString(content).container_id)
            case "/containers/create":
                self._appeared(ContainerCreate.FromString(content).id)
            case "/containers/delete":
                self._objects.forget(ContainerDelete.FromString(content).id)
            case _:
                self._news.put_nowait(ImagesChanged())

    def _exited(self, event: TaskExit) -> None:
        if event.id == event.container_id:
            self._exits.ended(event.container_id, event.exit_status, time_ns(event.exited_at), event.pid)
        else:
            self._execs.ended(event.id, event.exit_status)

    def _ended(self, event: ProcessExited) -> None:
        self._execs.container_ended(event.id)
        self._news.put_nowait(event)

    def _gone(self, object_id: str) -> None:
        self._execs.container_ended(object_id)
        self._news.put_nowait(ObjectGone(object_id))

    def _started(self, event: TaskStart, at_ns: int) -> None:
        held = self._objects.held.get(event.container_id)
        if held is None or held.kind != labels.CONTAINER or held.id in self._objects.given_up:
            return
        tell = partial(self._news.put_nowait, ProcessStarted(held.id, at_ns))
        if not self._exits.when_started(held.id, tell):
            self._objects.without_task.discard(held.id)
            self._objects.running.setdefault(held.id, event.pid)
            tell()

    def _appeared(self, object_id: str) -> None:
        if object_id not in self._objects.making and object_id not in self._objects.held:
            self._news.put_nowait(ObjectAppeared(object_id))


@contextlib.asynccontextmanager
async def _running(coroutine: Coroutine[Any, Any, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run a job for as long as the context lasts."""
    job = asyncio.get_running_loop().create_task(coroutine, name=name)
    try:
        yield job
    finally:
        job.cancel()
        await asyncio.wait((job,))
