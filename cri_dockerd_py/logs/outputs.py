"""The output of containers whose shims write raw bytes into FIFOs of ours, as the rest of the service sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from cri_dockerd_py.errors import Unavailable
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.log_file import check_path
from cri_dockerd_py.logs.output_room import OutputRoom
from cri_dockerd_py.logs.pump import Pump
from cri_dockerd_py.logs.room import FifoKeeper, NoKeeper
from cri_dockerd_py.logs.state_lock import StateLock
from cri_dockerd_py.logs.tee import STDERR, STDOUT, OutputTee

T = TypeVar("T")


class ContainerOutputs:
    """Moves the output of containers to CRI log files and to attached clients.

    `state_dir` (on a tmpfs) is this object's alone; what it holds lets the next process go on after a kill at any
    instant with no line lost, doubled or torn. `keeper` is told which FIFOs to keep open while no process of the
    service runs, and `inherited` are those that it kept, by name; their names begin with `output_room.STORE_PREFIX`.
    All methods belong to one event loop; none blocks it.
    """

    def __init__(
        self, state_dir: Path, *, inherited: Mapping[str, int] | None = None, keeper: FifoKeeper | None = None
    ) -> None:
        self.counters = Counters()
        self._inherited = dict(inherited or {})
        self._lock = StateLock(state_dir)
        self._pump = Pump("outputs")
        self._room = OutputRoom(state_dir, self._pump, self.counters, keeper if keeper is not None else NoKeeper())
        self._open = False

    async def start(self) -> None:
        """Go on with the containers of an earlier process, before anything else is called.

        Raises FailedPrecondition when another process uses the state directory.
        """
        self._lock.take()
        self._pump.start()
        self._open = True
        try:
            await self._call(partial(self._room.recover, self._inherited))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop where we are: output waits in the pipes for the next process; attached clients see the end.

        May be called twice.
        """
        if self._open:
            self._open = False
            await asyncio.wrap_future(self._pump.submit(self._room.close))
            await asyncio.to_thread(self._pump.stop)
            self._lock.release()

    async def open(self, container_id: str, log_path: str, stdout: Path, stderr: Path | None) -> None:
        """Begin to read a container's FIFOs, which exist, and open its log file; call it before the task is created.

        An empty `log_path` is for output that nobody keeps: it is read and thrown away. `stderr` is None with a tty.
        Twice the same is once. Nothing is left behind when it raises: InvalidArgument for a bad path,
        FailedPrecondition for what is no regular file or no FIFO, ResourceExhausted, Internal.
        """
        path = check_path(log_path) if log_path else None
        await self._call(partial(self._room.open, container_id, path, stdout, stderr))

    async def finish(self, container_id: str, within_s: float) -> bool:
        """The process has exited: read on until all that holds its pipes has let go, then close the log.

        When it returns the log file is complete, and attached clients have been given everything and the end. It is
        at once where the task was deleted before, since the shim has then let go. After `within_s` seconds, because a
        child in the background keeps a pipe open, what is in the pipes is written and no more; the answer is then
        False. An unknown container is fine: it was finished before.
        """
        ended = asyncio.wrap_future(await self._call(partial(self._room.finish, container_id)))
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.shield(ended)
        except TimeoutError:
            await self._call(partial(self._room.conclude, container_id))
            return False

    async def reopen(self, container_id: str) -> None:
        """Rotation: when this returns, all further lines go to a new file at the log's path.

        Raises FailedPrecondition for a container that is finished, NotFound for one that is not known.
        """
        await self._call(partial(self._room.reopen, container_id))

    async def forget(self, container_id: str) -> None:
        """The container is removed, or was never started: keep nothing but the log file. The FIFOs are the caller's."""
        await self._call(partial(self._room.forget, container_id))

    async def subscribe(self, container_id: str, streams: Iterable[int] = (STDOUT, STDERR)) -> OutputTee:
        """Attach: get every chunk of `streams` from now on, as the process wrote it; close it in the end.

        Raises as `reopen` does.
        """
        tee = OutputTee(streams, partial(self._resume, container_id), partial(self._leave, container_id))
        try:
            await self._call(partial(self._room.subscribe, container_id, tee))
        except BaseException:
            tee.close()
            raise
        return tee

    def known(self) -> frozenset[str]:
        """The containers whose output is being read; `finish` or `forget` those that the engine no longer runs."""
        return self._room.known()

    async def open_fifos(self) -> dict[str, int]:
        """The FIFOs that are open now, by the names under which `inherited` expects them."""
        return await self._call(self._room.fifos)

    def _resume(self, container_id: str) -> None:
        if self._open:
            self._pump.submit(partial(self._room.resume, container_id))

    def _leave(self, container_id: str, tee: OutputTee) -> None:
        if self._open:
            self._pump.submit(partial(self._room.leave, container_id, tee))

    async def _call(self, job: Callable[[], T]) -> T:
        if not self._open:
            raise Unavailable("the service is stopping or has not started; try again")
        return await asyncio.wrap_future(self._pump.submit(job))
