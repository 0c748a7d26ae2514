"""An exec or attach session: joins a client to a process until one of them ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from cri_dockerd_py.errors import CriError
from cri_dockerd_py.streaming import jobs
from cri_dockerd_py.streaming.command_wire import CommandWire
from cri_dockerd_py.streaming.connection import ClientGone
from cri_dockerd_py.streaming.link import Ending
from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.process import ProcessIO
from cri_dockerd_py.streaming.protocol.remote_command import Failed, Outcome, Streams, Succeeded, outcome_of

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: What an engine raises when it refuses or is lost.
_LOST = (CriError, OSError)


class CommandSession:
    """One session; `command` is None for attach, which never ends the process."""

    def __init__(
        self,
        wire: CommandWire,
        open_process: Callable[[], Awaitable[ProcessIO]],
        streams: Streams,
        command: tuple[str, ...] | None,
        options: StreamingOptions,
    ) -> None:
        self._wire = wire
        self._open_process = open_process
        self._streams = streams
        self._command = command
        self._options = options
        self._over = False
        self._drain = _Drain(options.drain_s)

    async def run(self) -> None:
        """Serve the client to the end."""
        outcome = await self._wait_for_streams()
        if outcome is None and self._wire.end.reason is None:
            outcome = await self._serve()
        reason = self._wire.end.reason
        if outcome is not None:
            await self._wire.finish(outcome)
        elif reason is None or reason is Ending.CLIENT_GONE:
            await self._wire.drop()
        else:
            await self._wire.finish(self._failed(reason.value))

    async def _wait_for_streams(self) -> Outcome | None:
        """Wait for the client's streams, and return a failure when they do not come."""
        try:
            async with asyncio.timeout(self._options.creation_timeout_s):
                await self._unless_ended(self._wire.opened())
        except TimeoutError:
            waited_s = self._options.creation_timeout_s
            return self._failed(f"the client did not open the streams {self._wire.missing} within {waited_s:.0f} s")
        return None

    async def _serve(self) -> Outcome | None:
        """Run the process; None when the client or the server ended the session first."""
        try:
            # Not given up when the client leaves meanwhile: what has been started has to be known to be stopped.
            process = await self._open_process()
        except _LOST as cause:
            return self._failed(str(cause))
        try:
            return await self._converse(process)
        finally:
            await self._let_go(process)

    async def _converse(self, process: ProcessIO) -> Outcome | None:
        helpers = []
        if self._streams.stdin:
            helpers.append(jobs.start(self._copy_stdin(process), "stdin"))
        if self._streams.tty:
            helpers.append(jobs.start(self._copy_sizes(process), "resize"))
        try:
            if self._command is None:
                return await self._unless_ended(self._follow_attached(process, helpers[:1]))
            return await self._unless_ended(self._follow_command(process, self._command))
        except ClientGone:
            self._wire.end.give(Ending.CLIENT_GONE)
            return None
        except _LOST as cause:
            return self._failed(str(cause))
        finally:
            await jobs.cancel(helpers)

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what `work` returns, or None as soon as the session has to end."""
        job = jobs.start(work, "session")
        try:
            await asyncio.wait((job, self._wire.end.future), return_when=asyncio.FIRST_COMPLETED)
            return job.result() if job.done() else None
        finally:
            await jobs.cancel([job])

    async def _follow_command(self, process: ProcessIO, command: tuple[str, ...]) -> Outcome:
        """Copy all output, and only then tell the exit code."""
        exit_code = jobs.start(process.wait(), "exit")
        exit_code.add_done_callback(lambda _: self._drain.begin())
        try:
            await self._copy_output(process)
            code = await exit_code
            self._over = True
            return outcome_of(code, command)
        finally:
            await jobs.cancel([exit_code])

    async def _follow_attached(self, process: ProcessIO, stdin: list[asyncio.Task[None]]) -> Outcome:
        """Copy the output to its end; without any, the end of stdin or of the container is the end."""
        if self._streams.stdout or self._streams.stderr:
            await self._copy_output(process)
            return Succeeded()
        ended = jobs.start(process.wait(), "exit")
        try:
            await asyncio.wait((ended, *stdin), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await jobs.cancel([ended])
        return Succeeded()

    async def _copy_output(self, process: ProcessIO) -> None:
        turns = jobs.Turns()
        while (piece := await self._drain.read(process)) is not None:
            stream, data = piece
            await self._wire.write(stream, data)
            await turns.count(len(data))

    async def _copy_stdin(self, process: ProcessIO) -> None:
        turns = jobs.Turns()
        try:
            while (data := await self._wire.stdin.take()) is not None:
                await process.write_stdin(data)
                await turns.count(len(data))
            # A terminal has no end of input of its own; closing it would hang up.
            if not self._streams.tty:
                await process.close_stdin()
        except _LOST as cause:
            logger.debug("a process takes no more input: %s", cause)
        finally:
            self._wire.stdin.discard()

    async def _copy_sizes(self, process: ProcessIO) -> None:
        while True:
            size = await self._wire.sizes.take()
            try:
                await process.resize(size.width, size.height)
            except _LOST as cause:
                logger.debug("a terminal was not resized: %s", cause)

    async def _let_go(self, process: ProcessIO) -> None:
        """Stop a command whose session ends before it, and release the streams."""
        try:
            if self._command is not None and not self._over:
                async with asyncio.timeout(self._options.kill_s):
                    await process.kill()
                    await process.wait()
        except _LOST as cause:
            logger.warning("the command of a session that ended early was not seen to end: %s", cause or "timed out")
        finally:
            with contextlib.suppress(*_LOST):
                await process.close()

    def _failed(self, text: str) -> Failed:
        doing = "attaching to container" if self._command is None else "executing command in container"
        return Failed(f"error {doing}: {text}")


class _Drain:
    """Reads output; behind the process's exit the time that is spent waiting for more is limited in all.

    Time that a slow client takes does not count: what has been written before the exit arrives.
    """

    def __init__(self, limit_s: float) -> None:
        self._left_s = limit_s
        self._began_at: float | None = None
        self._waiting: asyncio.Timeout | None = None

    def begin(self) -> None:
        """Note the process's exit."""
        self._began_at = asyncio.get_running_loop().time()
        if self._waiting is not None:
            self._waiting.reschedule(self._began_at + self._left_s)

    async def read(self, process: ProcessIO) -> tuple[int, bytes] | None:
        """Return the next output, None at its end or when it has been waited for long enough."""
        started_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None if self._began_at is None else self._left_s) as self._waiting:
                return await process.read()
        except TimeoutError:
            return None
        finally:
            self._waiting = None
            if self._began_at is not None:
                self._left_s -= asyncio.get_running_loop().time() - max(started_at, self._began_at)
