"""The room for FIFOs of raw bytes, one a stream, whose end counts only once the process is known to have exited.

A read of nothing says little on such a FIFO: its writer may not have come yet, or may be about to come back. So it is
taken for the end only between `finish` and the end of the container's log. Runs in the pump thread only.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from pathlib import Path

from cri_dockerd_py.errors import FailedPrecondition, NotFound
from cri_dockerd_py.logs.container_log import ContainerLog
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.pump import Pump
from cri_dockerd_py.logs.raw_stream import RawStream
from cri_dockerd_py.logs.room import FifoKeeper, LogRoom
from cri_dockerd_py.logs.source import Source
from cri_dockerd_py.logs.tee import OutputTee

logger = logging.getLogger(__name__)

STORE_PREFIX = "output"
_STREAMS = ("stdout", "stderr")  # in the order of their index


class OutputRoom(LogRoom):
    """Open, finish, rotate, forget and recover the output of containers, and let clients join."""

    store_prefix = STORE_PREFIX
    chunk_bytes = 128 << 10  # larger ones cost more: their many copies take fresh pages each time

    def __init__(self, state_dir: Path, pump: Pump, counters: Counters, keeper: FifoKeeper) -> None:
        super().__init__(state_dir, pump, {stream: RawStream(stream) for stream in _STREAMS}, counters, keeper)
        self._finishing: dict[str, Future[bool]] = {}

    def open(self, container_id: str, path: Path | None, stdout: Path, stderr: Path | None) -> None:
        """Begin to read a container's FIFOs; all or nothing of a container that is new."""
        is_new = container_id not in self._logs
        try:
            for index, fifo_path in enumerate((stdout, stderr)):
                if fifo_path is not None:
                    self.attach(container_id, path, str(fifo_path), _STREAMS[index], index)
        except BaseException:
            if is_new:
                self.forget(container_id)
            raise

    def finish(self, container_id: str) -> Future[bool]:
        """From now on the end of a stream is its end; the future says true when all have come to it."""
        future = self._finishing.get(container_id)
        if future is not None:
            return future
        future = Future()
        log = self._logs.get(container_id)
        if log is None:
            future.set_result(True)
            return future
        self._finishing[container_id] = future
        log.tees.end_soon()
        self.resume(container_id)
        if not log.sources:
            self._complete(log, ended=True)
        return future

    def writers_gone(self, log: ContainerLog, source: Source) -> None:
        """A read gave nothing."""
        if log.container_id in self._finishing:
            self._end(log, source, unlink=False)
            if not log.sources:
                self._complete(log, ended=True)

    def conclude(self, container_id: str) -> None:
        """End a log although somebody still holds its pipes: write what is there now, and no more."""
        log = self._logs.get(container_id)
        if log is not None:
            logger.info("container %s: its output is still held open and is read no further", container_id)
            for source in list(log.sources.values()):
                self._end(log, source, unlink=False)
            self._complete(log, ended=False)

    def _complete(self, log: ContainerLog, *, ended: bool) -> None:
        self._close(log)
        self._stopped.add(log.container_id)
        future = self._finishing.pop(log.container_id, None)
        if future is not None:
            future.set_result(ended)

    def _close(self, log: ContainerLog) -> None:
        super()._close(log)
        log.tees.end()

    def forget(self, container_id: str) -> None:
        """The container is removed: keep nothing of it but its log file."""
        super().forget(container_id)
        future = self._finishing.pop(container_id, None)
        if future is not None:
            future.set_result(True)

    def subscribe(self, container_id: str, tee: OutputTee) -> None:
        """Give a client what comes from now on."""
        log = self._logs.get(container_id)
        if log is not None:
            log.tees.add(tee)
        elif container_id in self._stopped:
            raise FailedPrecondition(f"container {container_id} is not running, so there is no output to attach to")
        else:
            raise NotFound(f"no output of a container {container_id} is open here")

    def leave(self, container_id: str, tee: OutputTee) -> None:
        """A client has gone, and holds nobody up any more."""
        log = self._logs.get(container_id)
        if log is not None:
            log.tees.remove(tee)
            self.resume(container_id)

    def resume(self, container_id: str) -> None:
        """Look at a container's pipes, which may have been left alone for a client that was slow."""
        log = self._logs.get(container_id)
        if log is not None:
            for source in log.sources.values():
                self._pump.wake(source.fd)

    def close(self) -> None:
        """Close all descriptors and leave the state for the next process."""
        tees = [log.tees for log in self._logs.values()]
        super().close()
        for each in tees:
            each.end()
        for future in self._finishing.values():
            future.set_result(False)
        self._finishing.clear()
