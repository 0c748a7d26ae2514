"""Docker containers as such, whether sandboxes or containers: create under a name, inspect, kill, remove."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cri_dockerd_py.backends.direct_signal import send_signal
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.cut_off_starts import (
    is_left_of_a_start,
    kill_processes_of,
    processes_of,
)
from cri_dockerd_py.backends.docker.marks import Marks
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.backends.makings import Makings
from cri_dockerd_py.errors import AlreadyExists, CriError, FailedPrecondition, NotFound, Unavailable, Unknown

#: What belongs to a create besides Docker's call; it gets the new container's id.
Then = Callable[[str], Awaitable[None]]
_IN_USE_BY = re.compile(r'already in use by container "?([0-9a-z]+)"?')
_CREATES = 3
_LEFT_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
_LOG = logging.getLogger(__name__)
#: Of a first process; then Docker is asked, which kills all of the container's.
_DIES_WITHIN_S = 2.0
_PLAIN_RUNTIMES = frozenset({"runc", "io.containerd.runc.v2"})
_REMOVE_WITHIN_S = 60.0
_REMOVE_AGAIN_S = 0.1
_CUT_OFF = (
    "Docker ended while it started container {}, and does not know what ran in it, which was killed now: "
    "make the container anew"
)
_NEVER = "0001-"
#: Docker hears of the end of what it did not know, and would take it for the end of what is started meanwhile.
_HEARS_WITHIN_S = 2.0
_BEING_REMOVED = "already in progress"
_BUSY = ("device or resource busy", "unable to remove filesystem", "failed to remove root filesystem")
_ABSENT = "No such container"


def _nothing(object_id: str) -> None:
    """Nobody wants to hear."""


class DockerObjects:
    """The calls that sandboxes and containers share. A create that was begun is always seen to its end.

    `on_removed` hears of every container that is gone for good; it must be quick.
    """

    def __init__(self, client: DockerClient, marks: Marks, on_removed: Callable[[str], None] = _nothing) -> None:
        self._client = client
        self._marks = marks
        self._on_removed = on_removed
        self._makings = Makings()
        #: Containers of which Docker knows that they were started, or whose start it cannot have forgotten.
        self._ran: set[str] = set()
        self._fresh: set[str] = set()
        #: First processes, of containers that an ordinary OCI runtime runs: another one may have a VM's there.
        self._pids: dict[str, int] = {}
        self._ending = KeyedLocks()

    def forget_fresh(self) -> None:
        """The daemon is another one: it may have ended in the middle of a start, and not know of what runs."""
        self._fresh.clear()

    async def create(self, name: str, body: Mapping[str, Any], then: Then | None = None) -> str:
        """Create a container, do `then`, and return its id; AlreadyExists when a running one has the name."""
        return await self._makings.run(name, self._create(name, body, then))

    async def _create(self, name: str, body: Mapping[str, Any], then: Then | None) -> str:
        with self._marks.making(name):
            for _ in range(_CREATES):
                try:
                    answer = await self._client.post("/containers/create", params={"name": name}, body=body)
                except AlreadyExists as error:
                    await self._make_way(name, error)
                    continue
                container_id = _id_in(answer)
                self._marks.made.add(container_id)
                self._fresh.add(container_id)
                if then is not None:
                    await then(container_id)
                return container_id
        raise AlreadyExists(f"the name {name} is taken again and again: another program makes containers of that name")

    async def _make_way(self, name: str, conflict: AlreadyExists) -> None:
        """Remove the dead container that has our name, or raise the conflict when it lives."""
        match = _IN_USE_BY.search(str(conflict))
        document = await self.find(match[1] if match else name)
        if document is None:
            return
        if document["State"].get("Running"):
            raise conflict
        await self.remove(str(document["Id"]))

    async def discard_unborn(self, name: str, may_go: Callable[[Mapping[str, Any]], bool]) -> None:
        """Remove the container with this name if `may_go`, after a create that is under way has ended."""
        await self._makings.ended(name)
        document = await self.find(name)
        if document is not None and document.get("Name") == f"/{name}" and may_go(document):
            await self.remove(str(document["Id"]))

    async def find(self, id_or_name: str) -> dict[str, Any] | None:
        """Return the inspect document, None when absent; rubbish is Unavailable."""
        try:
            document = await self._client.get("/containers/{}/json", id_or_name)
        except NotFound:
            return None
        if not isinstance(document, dict) or not all(
            isinstance(document.get(key), kind)
            for key, kind in (("Id", str), ("State", dict), ("Config", dict), ("HostConfig", dict))
        ):
            raise Unavailable(f"Docker's description of container {id_or_name} makes no sense: {str(document)[:200]}")
        return document

    async def start(self, container_id: str) -> None:
        """Start; that it runs already is fine. The runtime's failure is Unknown, whatever status Docker chose.

        What a start has left that was cut off by Docker's own end is taken away. Where Docker has heard of the end of
        a process in it, the container has failed.
        """
        await self._require_startable(container_id, await self.end_forgotten(container_id))
        for pause_s in _LEFT_PAUSES_S:
            try:
                await self._start(container_id)
            except Unknown as error:
                if not is_left_of_a_start(str(error)):
                    raise
                refusal = error
            else:
                self._ran.add(container_id)
                return
            self._fresh.discard(container_id)
            await self._require_startable(container_id, await self.end_forgotten(container_id))
            await asyncio.sleep(pause_s)
        raise Unavailable(f"an earlier start of container {container_id} is in the way: {refusal}") from refusal

    async def _require_startable(self, container_id: str, killed: int) -> None:
        """Raise Unknown when Docker takes the end of the processes that were killed for the container's."""
        document = await self.find(container_id) if killed else None
        if document is not None and not str(document["State"].get("FinishedAt") or _NEVER).startswith(_NEVER):
            raise Unknown(_CUT_OFF.format(container_id))

    async def end_forgotten(self, container_id: str) -> int:
        """Kill what runs of a container that has never run as far as Docker knows; return how many processes that was.

        From then on it counts as known, until the daemon is another one.
        """
        async with self._ending.hold(container_id):
            if self._is_well_known(container_id):
                return 0
            killed = 0
            if await asyncio.to_thread(processes_of, container_id):
                # Docker inspects when a start that is under way has ended, and then knows of what it has started.
                document = await self.find(container_id)
                if document is None or document["State"].get("Status") != "created":
                    return 0
                killed = await self._end_orphans(container_id)
            self._fresh.add(container_id)
            if killed:
                await asyncio.sleep(_HEARS_WITHIN_S)
            return killed

    def _is_well_known(self, container_id: str) -> bool:
        """Whether nothing of a container can run that Docker does not know of."""
        return container_id in self._ran or container_id in self._fresh

    async def _end_orphans(self, container_id: str) -> int:
        """Kill what runs without Docker's knowing, and return how many processes that were."""
        if self._is_well_known(container_id):
            return 0
        killed = await asyncio.to_thread(kill_processes_of, container_id)
        if killed:
            _LOG.warning("container %s: killed %d processes of a start that was cut off", container_id, killed)
        return killed

    async def _start(self, container_id: str) -> None:
        try:
            await self._client.post("/containers/{}/start", container_id)
        except NotFound as error:
            if _ABSENT in str(error):
                raise
            raise Unknown(str(error)) from error
        except Unavailable:
            raise
        except CriError as error:
            raise Unknown(str(error)) from error

    def runs(self, document: Mapping[str, Any]) -> None:
        """Take note of a container that was started, as it is inspected."""
        if document["State"].get("Running") and document["HostConfig"].get("Runtime") in _PLAIN_RUNTIMES:
            self._pids[str(document["Id"])] = int(document["State"].get("Pid") or 0)

    async def kill(self, container_id: str) -> None:
        """SIGKILL, thawing it if need be; returns when it is dead. Absent and not running are fine."""
        self._marks.killed.add(container_id)
        if await self._send(container_id, signal.SIGKILL) and await self._ends(container_id, _DIES_WITHIN_S):
            return
        if not await self._signal(container_id, signal.SIGKILL):
            self._marks.forget(container_id)

    async def signal(self, container_id: str, number: int) -> None:
        """Send a signal; absent and not running are fine."""
        if not await self._send(container_id, number):
            await self._signal(container_id, number)

    async def _send(self, container_id: str, number: int) -> bool:
        """Send a signal without Docker, which has to answer first: while it is away, nothing is to happen."""
        pid = self._pids.get(container_id, 0)
        if not pid:
            return False
        await self._client.ping()
        return await asyncio.to_thread(send_signal, pid, container_id, number)

    async def _ends(self, container_id: str, within_s: float) -> bool:
        """Return whether Docker knows within the time that a container does not run."""
        try:
            async with asyncio.timeout(within_s):
                await self._client.post("/containers/{}/wait", container_id, params={"condition": "not-running"})
        except (TimeoutError, NotFound):
            return False
        return True

    async def _signal(self, container_id: str, number: int) -> bool:
        """Let Docker send a signal, and return whether there is such a container."""
        try:
            await self._client.post("/containers/{}/kill", container_id, params={"signal": str(int(number))})
        except NotFound:
            return False
        except FailedPrecondition as error:
            if "is not running" not in str(error):
                raise
        return True

    async def remove(self, container_id: str) -> None:
        """Kill and remove with anonymous volumes, and wait for a removal that is under way; absent is fine."""
        self._marks.killed.add(container_id)
        await self._end_orphans(container_id)
        deadline = asyncio.get_running_loop().time() + _REMOVE_WITHIN_S
        while True:
            try:
                await self._client.delete("/containers/{}", container_id, params={"v": "1", "force": "1"})
            except NotFound:
                break
            except (FailedPrecondition, Unknown) as error:
                text = str(error)
                again = _BEING_REMOVED in text or any(sign in text for sign in _BUSY)
                if not again or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_REMOVE_AGAIN_S)
            else:
                break
        self._marks.forget(container_id)
        self._ran.discard(container_id)
        self._fresh.discard(container_id)
        self._pids.pop(container_id, None)
        self._on_removed(container_id)


def _id_in(answer: object) -> str:
    container_id = answer.get("Id") if isinstance(answer, dict) else None
    if not isinstance(container_id, str) or not container_id:
        raise Unavailable(f"Docker's answer to a create has no id: {str(answer)[:200]}")
    return container_id
