"""The end of a first process: its output drained, how it ended put on file, the news told, the task deleted.

The order makes it safe to be killed anywhere: while the task is there, an exit is found again as a stopped task.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

from cri_dockerd_py.backends.base import ProcessExited
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.objects import Held, Objects
from cri_dockerd_py.backends.containerd.oom_kills import OomKills
from cri_dockerd_py.backends.containerd.record_convert import LOST_EXIT_CODE, LOST_REASON
from cri_dockerd_py.backends.containerd.shim_slots import Slot
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import RUNS, Tasks, TaskState
from cri_dockerd_py.errors import CriError
from cri_dockerd_py.logs.outputs import ContainerOutputs
from cri_dockerd_py.model.container import exit_reason
from cri_dockerd_py.network.settle import settle_call
from cri_dockerd_py.settings.runtimes import RUNC_TYPE

_LOG = logging.getLogger(__name__)
#: Longer than it takes the kernel to end a whole pod; who still holds a pipe then is no process of the container.
_DRAIN_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.5
_ENDS_SOON_S = 0.2
_KILL_WITHIN_S = 10.0
#: Of a first process; then the shim is asked to kill all of the container's.
_DIES_WITHIN_S = 2.0
_DELETES = 3
_DELETE_AGAIN_S = 0.2
_LAST_EVERY_S = 0.05
#: A shim whose event could not be told tries again after 1 s, 2 s more, 3 s more, and so on.
LATE_NEWS_WITHIN_S = 6.0

Tell = Callable[[ProcessExited], None]


class Exits:
    """Owns a job for each end that is being dealt with. `tell` must be quick."""

    def __init__(
        self, tasks: Tasks, objects: Objects, outputs: ContainerOutputs, statuses: Statuses, ooms: OomKills
    ) -> None:
        self.tell: Tell = lambda _event: None
        self._tasks = tasks
        self._objects = objects
        self._outputs = outputs
        self._statuses = statuses
        self._ooms = ooms
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._starting: dict[str, asyncio.Future[bool]] = {}
        #: Pause processes whose end is told, and whose tasks are kept until the pod's containers have none.
        self._last_ones: dict[str, asyncio.Task[None]] = {}
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._searches: set[asyncio.Task[None]] = set()

    def is_busy(self, object_id: str) -> bool:
        """Whether the object is being started, or its end dealt with."""
        return object_id in self._starting or object_id in self._jobs or object_id in self._last_ones

    def is_starting(self, object_id: str) -> bool:
        """Whether the object is being started by this process."""
        return object_id in self._starting

    @asynccontextmanager
    async def starting(self, object_id: str) -> AsyncIterator[None]:
        """Hold back the news of an end while the object is being started; a start that fails has none."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._starting[object_id] = done
        self._objects.without_task.discard(object_id)
        self._objects.given_up.discard(object_id)
        try:
            yield
        except BaseException:
            if object_id in self._objects.held:
                self._objects.given_up.add(object_id)
            done.set_result(False)
            raise
        else:
            done.set_result(True)
        finally:
            del self._starting[object_id]

    def when_started(self, object_id: str, then: Callable[[], None]) -> bool:
        """Have `then` called if the start that is under way succeeds; return False when there is none."""
        start = self._starting.get(object_id)
        if start is None:
            return False
        start.add_done_callback(lambda done: then() if done.result() else None)
        return True

    def ended(
        self, object_id: str, exit_code: int, at_ns: int, pid: int = 0, reason: str = ""
    ) -> asyncio.Task[None] | None:
        """Deal with the end of an object's first process, once; None for what is not ours, or was given up.

        With a pid, the end of a process that is not the object's any more is left alone. Without a reason, the exit
        code tells it.
        """
        held = self._objects.held.get(object_id)
        if held is None or object_id in self._last_ones or object_id in self._objects.given_up:
            return None
        job = self._jobs.get(object_id)
        if job is None:
            loop = asyncio.get_running_loop()
            job = loop.create_task(
                self._deal_with(held, exit_code, at_ns or time.time_ns(), pid, reason), name=f"end of {object_id}"
            )
            self._jobs[object_id] = job
            job.add_done_callback(lambda _done: self._jobs.pop(object_id, None))
        return job

    async def erase(self, object_id: str) -> None:
        """Leave an object without a task, whatever state it is in."""
        if object_id in self._objects.running:
            await self.kill(object_id, _KILL_WITHIN_S)
        await self.settled(object_id)
        if (last := self._last_ones.get(object_id)) is not None:
            last.cancel()
            await asyncio.wait((last,))
        if object_id not in self._objects.without_task:
            await self._tasks.erase(object_id)
            self._objects.running.pop(object_id, None)

    async def settled(self, object_id: str) -> None:
        """Return when no end of the object is being dealt with any more."""
        job = self._jobs.get(object_id)
        if job is not None:
            await asyncio.wait((job,))

    async def kill(self, object_id: str, within_s: float) -> bool:
        """SIGKILL all of an object's processes; return whether its end is known within the time, or was before.

        A task that is frozen is thawed: it got its signal, and can act on it only then.
        """
        async with self._tasks.slots.hold(object_id, Slot.END):
            return await self._kill(object_id, within_s)

    async def signal(self, object_id: str, number: int) -> None:
        """Send a signal that may end an object; most that end by it do so before its turn is over."""
        async with self._tasks.slots.hold(object_id, Slot.END):
            with self._awaiting(object_id) as ended, suppress(TimeoutError):
                if await self._send(object_id, number) or await self._tasks.kill(object_id, number):
                    async with asyncio.timeout(_ENDS_SOON_S):
                        await ended.wait()

    async def _kill(self, object_id: str, within_s: float) -> bool:
        with self._awaiting(object_id) as ended:
            if await self._send(object_id, signal.SIGKILL):
                direct_s = min(_DIES_WITHIN_S, within_s)
                if await self._wait(object_id, ended, direct_s):
                    return True
                within_s -= direct_s
            if not await self._tasks.kill(object_id, signal.SIGKILL, everything=True):
                await self.settled(object_id)
                return True
            return await self._wait(object_id, ended, within_s)

    async def _send(self, object_id: str, number: int) -> bool:
        """Send a signal without the shim; what is left of a killed process's container, its shim kills."""
        held = self._objects.held.get(object_id)
        pid = self._objects.running.get(object_id, 0)
        if held is None or held.runtime != RUNC_TYPE or not pid:
            return False
        return await self._tasks.signal_process(object_id, pid, number)

    async def late_news(self, object_id: str, within_s: float) -> bool:
        """Return whether the end of an object that has no task any more is told after all within the time."""
        with self._awaiting(object_id) as ended:
            try:
                async with asyncio.timeout(within_s):
                    await ended.wait()
            except TimeoutError:
                return False
            return True

    @contextmanager
    def _awaiting(self, object_id: str) -> Iterator[asyncio.Event]:
        ended = asyncio.Event()
        waiters = self._waiters.setdefault(object_id, set())
        waiters.add(ended)
        try:
            yield ended
        finally:
            waiters.discard(ended)
            if not waiters:
                self._waiters.pop(object_id, None)

    async def _wait(self, object_id: str, ended: asyncio.Event, within_s: float) -> bool:
        deadline = asyncio.get_running_loop().time() + within_s
        while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(min(left_s, _LOOK_EVERY_S)):
                    await ended.wait()
                return True
            except TimeoutError:
                if await self._has_ended(object_id):
                    return True
        return False

    async def _has_ended(self, object_id: str) -> bool:
        task = await self._tasks.get(object_id)
        if task is None:
            return True
        if task.state is TaskState.STOPPED:
            job = self.ended(object_id, task.exit_code, task.exited_at_ns)
            if job is not None:
                await asyncio.wait((job,))
            return True
        if task.state in RUNS - {TaskState.RUNNING}:
            await self._tasks.resume(object_id)
        return False

    async def close(self) -> None:
        """Leave what is not finished to the next process."""
        jobs = [*self._jobs.values(), *self._last_ones.values(), *self._searches]
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)

    async def _deal_with(self, held: Held, exit_code: int, at_ns: int, pid: int, reason: str) -> None:
        try:
            start = self._starting.get(held.id)
            if start is not None and not await asyncio.shield(start):
                return
            if pid and self._objects.running.get(held.id, pid) != pid:
                return  # of a task that has been replaced
            event = await self._end(held, exit_code, at_ns, reason)
            self._objects.running.pop(held.id, None)
            self.tell(event)
            for waiter in self._waiters.get(held.id, ()):
                waiter.set()
            if held.kind == labels.SANDBOX:
                self._search(held.id)
                self._delete_last(held.id)
            else:
                await self._delete_wholly(held.id)
                self._ooms.forget(held.id)
        except CriError as error:
            _LOG.warning("the end of %s %s is not dealt with yet, will try again: %s", held.kind, held.id, error)

    def _search(self, sandbox_id: str) -> None:
        """Look whether a pod's containers have ended with its pause process."""
        for held in self._objects.containers_of(sandbox_id):
            pid = self._objects.running.get(held.id, 0)
            if pid and not self.is_busy(held.id):
                job = asyncio.get_running_loop().create_task(self._end_lost(held, pid), name=f"search of {held.id}")
                self._searches.add(job)
                job.add_done_callback(self._searches.discard)

    async def _end_lost(self, held: Held, pid: int) -> None:
        """End a container whose shim has died, and its task with it.

        When the shim that a pod's containers share dies, containerd 2 tells the end of the pause process alone, and
        kills that alone; the others live on, and nobody can reach them any more.
        """
        try:
            if await self._tasks.get(held.id) is not None or await self.late_news(held.id, LATE_NEWS_WITHIN_S):
                return
            if self._objects.running.get(held.id) == pid and not self.is_busy(held.id):
                _LOG.warning("container %s has lost its shim: it is killed", held.id)
                await self._send(held.id, signal.SIGKILL)
                self.ended(held.id, LOST_EXIT_CODE, 0, pid, LOST_REASON)
        except CriError as error:
            _LOG.warning("whether container %s has lost its shim is not known yet: %s", held.id, error)

    def _delete_last(self, sandbox_id: str) -> None:
        job = asyncio.get_running_loop().create_task(self._delete_after_pod(sandbox_id), name=f"end of {sandbox_id}")
        self._last_ones[sandbox_id] = job
        job.add_done_callback(lambda _done: self._last_ones.pop(sandbox_id, None))

    async def _delete_after_pod(self, sandbox_id: str) -> None:
        """Delete a pause process's task when no container of the pod has one any more.

        A shim ends with the task that it was made for, if no other one is being deleted then; or it stays for good.
        """
        while left := [
            held.id
            for held in self._objects.containers_of(sandbox_id)
            if held.id in self._objects.running or self.is_busy(held.id)
        ]:
            jobs = [self._jobs[container_id] for container_id in left if container_id in self._jobs]
            await (asyncio.wait(jobs) if jobs else asyncio.sleep(_LAST_EVERY_S))
        try:
            await self._delete_wholly(sandbox_id)
        except CriError as error:
            _LOG.warning("the task of sandbox %s is still there, will try again: %s", sandbox_id, error)

    async def _end(self, held: Held, exit_code: int, at_ns: int, reason: str) -> ProcessExited:
        if held.kind == labels.SANDBOX:
            return ProcessExited(held.id, exit_code, at_ns)
        await self._statuses.load((held,))
        status = self._statuses.known(held)
        if not status.finished_at_ns:
            await self._outputs.finish(held.id, _DRAIN_WITHIN_S)
            oom_killed = exit_code != 0 and self._ooms.any(held.id)
            started_at_ns = status.started_at_ns or held.created_at_ns
            status = replace(
                status,
                pid=0,
                started_at_ns=started_at_ns,
                finished_at_ns=max(at_ns, started_at_ns),
                exit_code=exit_code,
                reason=reason or exit_reason(exit_code, oom_killed=oom_killed),
            )
            await self._statuses.note(held.id, status)
        lost = LOST_REASON if status.reason == LOST_REASON else ""
        return ProcessExited(held.id, status.exit_code, status.finished_at_ns, status.reason == "OOMKilled", lost)

    async def _delete_wholly(self, object_id: str) -> None:
        """Delete a task, whatever happens to the caller.

        Whoever cancels it deletes the task next, and two deletions meet an error; containerd breaks a deletion off that
        nobody waits for, and keeps what is left then.
        """
        await settle_call(self._delete(object_id), f"delete task of {object_id}")

    async def _delete(self, object_id: str) -> None:
        for attempt in range(_DELETES):
            try:
                await self._tasks.delete(object_id)
                if object_id in self._objects.held:
                    self._objects.without_task.add(object_id)
                return
            except CriError:
                if attempt == _DELETES - 1:
                    raise
                await asyncio.sleep(_DELETE_AGAIN_S)
