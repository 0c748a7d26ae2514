"""All containers' logs of one engine: who is read from where, remembered in a directory so that a restart goes on.

Runs in the pump thread only. `<state>/<container id>/meta.json` names the log file and the FIFOs.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from cri_dockerd_py.errors import CriError, FailedPrecondition, InvalidArgument, NotFound
from cri_dockerd_py.logs.container_log import DEFAULT_CHUNK_BYTES, ContainerLog
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.cri_format import Decoder
from cri_dockerd_py.logs.log_file import translate
from cri_dockerd_py.logs.pump import Pump
from cri_dockerd_py.logs.source import Source, is_open, open_fifo

logger = logging.getLogger(__name__)

_META = "meta.json"


class FifoKeeper(Protocol):
    """Keeps FIFOs open while this service is away (a service manager's descriptor store); called in the pump thread."""

    def keep(self, name: str, fd: int) -> None:
        """Hold a duplicate of `fd` under `name`."""
        ...

    def release(self, name: str) -> None:
        """Let go of what is held under `name`."""
        ...


class NoKeeper:
    """For when there is no descriptor store."""

    def keep(self, name: str, fd: int) -> None:
        """Do nothing."""

    def release(self, name: str) -> None:
        """Do nothing."""


class LogRoom:
    """Attach, detach, rotate, forget and recover container logs."""

    store_prefix = "log"
    chunk_bytes = DEFAULT_CHUNK_BYTES

    def __init__(
        self, state_dir: Path, pump: Pump, decoders: Mapping[str, Decoder], counters: Counters, keeper: FifoKeeper
    ) -> None:
        self._state_dir = state_dir
        self._pump = pump
        self._decoders = decoders
        self._counters = counters
        self._keeper = keeper
        self._logs: dict[str, ContainerLog] = {}
        self._kinds: dict[str, str] = {}
        self._stopped: set[str] = set()

    def known(self) -> frozenset[str]:
        """The containers whose log is open (any thread)."""
        return frozenset(self._logs.copy())

    def fifos(self) -> dict[str, int]:
        """Descriptor-store name → open FIFO."""
        return {
            self._store_name(log, source.index): source.fd
            for log in self._logs.values()
            for source in log.sources.values()
        }

    def attach(self, container_id: str, path: Path | None, fifo_path: str, kind: str, index: int | None = None) -> None:
        """Begin, or after the engine's restart go on, with a FIFO of a container; twice the same is once.

        When it raises, nothing new is left open.
        """
        log = self._logs.get(container_id)
        if log is not None and fifo_path in log.sources and is_open(log.sources[fifo_path]):
            return
        try:
            self._begin(container_id, log, path, fifo_path, kind, index)
        except OSError as error:
            raise translate(error, f"keep the log of container {container_id}") from error

    def _begin(
        self,
        container_id: str,
        log: ContainerLog | None,
        path: Path | None,
        fifo_path: str,
        kind: str,
        index: int | None,
    ) -> None:
        with ExitStack() as undo:
            fd = open_fifo(fifo_path)
            try:
                if log is None:
                    log = self._open(container_id, path)
                    undo.callback(self._close, log)
                else:
                    self._retire(log, kind, fifo_path)
            except BaseException:
                os.close(fd)
                raise
            source = self._read(log, fifo_path, fd, kind, index)
            undo.callback(self._drop, log, source)
            self._save_meta(log)
            undo.pop_all()

    def _open(self, container_id: str, path: Path | None) -> ContainerLog:
        directory = self._directory(container_id)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(0o700, parents=True)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            log = ContainerLog(container_id, directory, path, self._counters, self.chunk_bytes)
            undo.callback(log.close)
            log.open_file()
            undo.pop_all()
        self._logs[container_id] = log
        self._stopped.discard(container_id)
        return log

    def _retire(self, log: ContainerLog, kind: str, successor: str) -> None:
        """A dead engine's FIFO of this kind gives all it still has before its successor's is read."""
        for source in [s for s in log.sources.values() if self._kinds[s.fifo_path] == kind]:
            self._end(log, source, unlink=source.fifo_path != successor)

    def _read(self, log: ContainerLog, fifo_path: str, fd: int, kind: str, index: int | None = None) -> Source:
        """Begin to read `fd`, which is closed when that cannot be."""
        try:
            source = log.add_source(fifo_path, fd, self._decoders[kind], index)
        except BaseException:
            os.close(fd)
            raise
        self._kinds[fifo_path] = kind
        try:
            self._keeper.keep(self._store_name(log, source.index), fd)
            self._pump.register(fd, partial(log.turn, source, partial(self.writers_gone, log, source)))
        except BaseException:
            self._drop(log, source)
            raise
        return source

    def writers_gone(self, log: ContainerLog, source: Source) -> None:
        """The writer has closed the FIFO without a word: the engine died; it will come back with another FIFO."""
        logger.info("container %s: the engine closed its log stream", log.container_id)
        self._end(log, source, unlink=True)
        self._save_meta(log)

    def _end(self, log: ContainerLog, source: Source, *, unlink: bool) -> None:
        log.drain(source)
        self._drop(log, source)
        if unlink:
            with suppress(OSError):
                os.unlink(source.fifo_path)

    def _drop(self, log: ContainerLog, source: Source) -> None:
        """Read a FIFO no further, whatever it holds."""
        self._pump.unregister(source.fd)
        self._keeper.release(self._store_name(log, source.index))
        log.remove_source(source)
        self._kinds.pop(source.fifo_path, None)

    def detach(self, fifo_path: str) -> None:
        """The engine says that nothing more comes: write what is there; after this the log file is complete."""
        for log in list(self._logs.values()):
            source = log.sources.get(fifo_path)
            if source is not None:
                self._end(log, source, unlink=False)
                if not log.sources:
                    self._close(log)
                    self._stopped.add(log.container_id)

    def reopen(self, container_id: str) -> None:
        """Rotate one log."""
        log = self._logs.get(container_id)
        if log is not None:
            log.reopen()
        elif container_id in self._stopped:
            raise FailedPrecondition(f"container {container_id} is not running, so its log cannot be reopened")
        else:
            raise NotFound(f"no log of a container {container_id} is open here")

    def forget(self, container_id: str) -> None:
        """The container is removed: keep nothing of it but its log file."""
        self._stopped.discard(container_id)
        log = self._logs.get(container_id)
        if log is not None:
            for source in list(log.sources.values()):
                self._end(log, source, unlink=False)
            self._close(log)

    def _close(self, log: ContainerLog) -> None:
        log.close()
        self._logs.pop(log.container_id, None)
        shutil.rmtree(self._directory(log.container_id), ignore_errors=True)

    def recover(self, inherited: Mapping[str, int]) -> None:
        """Go on where an earlier process stopped or was killed."""
        self._state_dir.mkdir(0o700, parents=True, exist_ok=True)
        unused = dict(inherited)
        for directory in sorted(path for path in self._state_dir.iterdir() if path.is_dir()):
            try:
                self._recover_one(directory, unused)
            except (CriError, OSError, ValueError, KeyError, TypeError):
                logger.exception("the log state in %s cannot be used and is left alone", directory)
        for fd in unused.values():
            os.close(fd)

    def _recover_one(self, directory: Path, inherited: dict[str, int]) -> None:
        if not (directory / _META).exists():  # killed before the engine had its answer, so the engine asks again
            shutil.rmtree(directory)
            return
        meta = json.loads((directory / _META).read_bytes())
        path = None if meta["log_path"] is None else Path(meta["log_path"])
        log = ContainerLog(meta["container_id"], directory, path, self._counters, self.chunk_bytes)
        self._logs[log.container_id] = log
        log.recover({fifo["index"]: self._decoders[fifo["kind"]] for fifo in meta["fifos"]})
        for fifo in meta["fifos"]:
            fd = _reopen_fifo(self._store_name(log, fifo["index"]), fifo["path"], inherited)
            if fd is None:
                logger.warning("container %s: log stream %s is gone", log.container_id, fifo["path"])
                log.abandon(fifo["index"], self._decoders[fifo["kind"]])
            else:
                self._read(log, fifo["path"], fd, fifo["kind"], fifo["index"])

    def close(self) -> None:
        """Close all descriptors and leave the state for the next process."""
        for log in self._logs.values():
            for source in log.sources.values():
                self._pump.unregister(source.fd)
            log.close()
        self._logs.clear()

    def _directory(self, container_id: str) -> Path:
        if not container_id.isalnum():
            raise InvalidArgument(f"{container_id!r} is not a container id")
        return self._state_dir / container_id

    def _store_name(self, log: ContainerLog, index: int) -> str:
        name = f"{self.store_prefix}-{log.container_id}"
        return name if index == 0 else f"{name}-{index}"

    def _save_meta(self, log: ContainerLog) -> None:
        meta = {
            "container_id": log.container_id,
            "log_path": None if log.path is None else str(log.path),
            "fifos": [
                {"path": path, "kind": self._kinds[path], "index": source.index} for path, source in log.sources.items()
            ],
        }
        target = self._directory(log.container_id) / _META
        scratch = target.with_suffix(".new")
        scratch.write_text(json.dumps(meta))
        scratch.replace(target)


def _reopen_fifo(name: str, fifo_path: str, inherited: dict[str, int]) -> int | None:
    """The FIFO by its path, or as it was kept open for us when its path is gone."""
    try:
        return open_fifo(fifo_path)
    except CriError:
        fd = inherited.pop(name, None)
        if fd is not None:
            os.set_blocking(fd, False)
        return fd
