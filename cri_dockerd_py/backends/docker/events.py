"""Docker's event stream as engine events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

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
from cri_dockerd_py.backends.docker import labels
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.convert import time_ns
from cri_dockerd_py.backends.docker.exec_exits import ExecExits
from cri_dockerd_py.backends.docker.marks import Marks
from cri_dockerd_py.errors import CriError, NotFound, Unavailable

_EXEC_ENDED = "exec_die"
_CONTAINER_EVENTS = ("create", "start", "die", "oom", "destroy", _EXEC_ENDED)
_IMAGE_EVENTS = ("pull", "tag", "untag", "delete", "import", "load")
_FILTERS = json.dumps({"type": ["container", "image"], "event": [*_CONTAINER_EVENTS, *_IMAGE_EVENTS]})
_OURS = frozenset({labels.SANDBOX_TYPE, labels.CONTAINER_TYPE})
_SIGKILL_EXIT_CODE = 137
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0
_OOM_LOOKS = 5
_OOM_PAUSE_S = 0.05


class DockerEvents(EventSource):
    """`marks` tell what we did ourselves: an exit after our SIGKILL needs no other explanation.

    `execs` is told of the ends of exec'd processes, which are no engine events.
    """

    def __init__(
        self,
        client: DockerClient,
        prepare: Callable[[], Awaitable[None]],
        snapshot: Callable[[], Awaitable[EngineSnapshot]],
        marks: Marks,
        execs: ExecExits,
    ) -> None:
        self._client = client
        self._execs = execs
        self._prepare = prepare
        self._snapshot = snapshot
        self._marks = marks

    async def snapshot(self) -> EngineSnapshot:
        """Return all that is ours."""
        return await self._snapshot()

    async def ping(self) -> None:
        """Return when the daemon answers."""
        await self._client.ping()

    async def events(self) -> AsyncIterator[EngineEvent]:
        """Yield events for ever; after each loss of the stream Disconnected, then Connected when it is back."""
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                async for event in self._one_stream():
                    yield event
                    retry_s = _FIRST_RETRY_S
                reason = "Docker ended the event stream"
            except CriError as error:
                reason = str(error)
            yield Disconnected(reason)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _LAST_RETRY_S)

    async def _one_stream(self) -> AsyncIterator[EngineEvent]:
        await self._client.negotiate()
        await self._prepare()
        queue: asyncio.Queue[EngineEvent | CriError | None] = asyncio.Queue()
        async with self._client.stream("GET", "/events", params={"filters": _FILTERS}) as messages:
            yield Connected()
            async with _beside(self._read(messages, queue)), _beside(self._watch(queue)):
                while (item := await queue.get()) is not None:
                    if isinstance(item, CriError):
                        raise item
                    yield item

    async def _watch(self, queue: asyncio.Queue[EngineEvent | CriError | None]) -> None:
        """End the stream when the daemon takes no new connections: it is ending, and must not be asked for anything."""
        await self._client.refused.wait()
        queue.put_nowait(Unavailable("Docker takes no new connections"))

    async def _read(
        self, messages: AsyncIterator[dict[str, Any]], queue: asyncio.Queue[EngineEvent | CriError | None]
    ) -> None:
        """Put events in order; only an exit that may be an OOM kill waits to be explained, beside the others."""
        try:
            async with asyncio.TaskGroup() as group:
                async for message in messages:
                    event = self._translate(message)
                    if isinstance(event, ProcessExited) and self._needs_explaining(event):
                        group.create_task(self._explain(event, queue), name=f"exit of {event.id}")
                    elif event is not None:
                        queue.put_nowait(event)
        except* CriError as errors:
            queue.put_nowait(Unavailable(f"Docker's event stream broke: {errors.exceptions[0]}"))
        except* (ValueError, KeyError, TypeError, AttributeError) as failures:
            queue.put_nowait(Unavailable(f"Docker's event stream makes no sense: {failures.exceptions[0]!r}"))
        finally:
            queue.put_nowait(None)

    def _translate(self, message: Mapping[str, Any]) -> EngineEvent | None:
        if message.get("Type") == "image":
            return ImagesChanged()
        actor = message.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        if message.get("Action") == _EXEC_ENDED:
            self._execs.told(str(attributes.get("execID")), int(attributes.get("exitCode") or 0))
            return None
        if attributes.get(labels.TYPE) not in _OURS or not actor.get("ID"):
            return None
        object_id, at_ns = str(actor["ID"]), int(message.get("timeNano") or time.time_ns())
        ours = self._marks.is_ours(object_id, str(attributes.get("name") or ""))
        match message.get("Action"):
            case "create":
                return None if ours else ObjectAppeared(object_id)
            case "start":
                is_sandbox = attributes[labels.TYPE] == labels.SANDBOX_TYPE
                return None if ours and is_sandbox else ProcessStarted(object_id, at_ns)
            case "die":
                exit_code = int(attributes.get("exitCode") or 0)
                return ProcessExited(object_id, exit_code, at_ns, object_id in self._marks.ooms and exit_code != 0)
            case "oom":
                self._marks.note_oom(object_id)
            case "destroy":
                self._marks.forget(object_id)
                return ObjectGone(object_id)
        return None

    def _needs_explaining(self, event: ProcessExited) -> bool:
        asked_for = event.oom_killed or event.id in self._marks.killed
        return event.exit_code == _SIGKILL_EXIT_CODE and not asked_for

    async def _explain(self, event: ProcessExited, queue: asyncio.Queue[EngineEvent | CriError | None]) -> None:
        """Look whether the kernel's OOM killer did it: Docker may hear of that after the exit (CST-07)."""
        oom_killed = False
        for _ in range(_OOM_LOOKS):
            oom_killed = event.id in self._marks.ooms or await self._died_of_oom(event)
            if oom_killed:
                break
            await asyncio.sleep(_OOM_PAUSE_S)
        queue.put_nowait(ProcessExited(event.id, event.exit_code, event.at_ns, oom_killed))

    async def _died_of_oom(self, event: ProcessExited) -> bool:
        try:
            state = (await self._client.get("/containers/{}/json", event.id))["State"]
            started_at_ns = time_ns(state.get("StartedAt"))
        except (NotFound, Unavailable, KeyError, TypeError):
            return False
        return bool(state.get("OOMKilled")) or self._marks.claim_oom(event.id, started_at_ns, event.at_ns)


@contextlib.asynccontextmanager
async def _beside(reader: Any) -> AsyncIterator[None]:
    """Run a job for as long as the context lasts."""
    job = asyncio.get_running_loop().create_task(reader, name="docker events")
    try:
        yield
    finally:
        job.cancel()
        await asyncio.wait((job,))
