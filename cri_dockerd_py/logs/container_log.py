"""One container's way from FIFO to log file, exactly once whatever is killed when.

For every chunk: take it from the FIFO into the spool, render it, append the text, commit. `journal.py` says why a
kill between any two of these steps loses and doubles nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from cri_dockerd_py.errors import CriError
from cri_dockerd_py.logs.counters import Counters
from cri_dockerd_py.logs.cri_format import Decoder, Rendered, not_before
from cri_dockerd_py.logs.journal import Journal, Mark, Spool
from cri_dockerd_py.logs.log_file import LogFile
from cri_dockerd_py.logs.pump import Turn
from cri_dockerd_py.logs.source import Source
from cri_dockerd_py.logs.tee import Tees

logger = logging.getLogger(__name__)

DEFAULT_CHUNK_BYTES = 256 << 10
_TURN_BYTES = 1 << 20
_REOPEN_SECONDS = 1.0
_FULL = 0.9


class ContainerLog:
    """The log file and the FIFOs that feed it; used in the pump thread only."""

    def __init__(
        self,
        container_id: str,
        directory: Path,
        path: Path | None,
        counters: Counters,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    ) -> None:
        self.container_id = container_id
        self._chunk_bytes = chunk_bytes
        self.path = path
        self.sources: dict[str, Source] = {}
        self.tees = Tees()
        self._directory = directory
        self._counters = counters
        self._log: LogFile | None = None
        self._next_open = 0.0
        self._trash = -1
        self._journal = Journal(directory)
        try:
            self._mark = self._journal.load()
            if path is None:
                self._trash = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def open_file(self) -> None:
        """Open the log file as a new container's: failure is the caller's to report."""
        if self.path is not None and self._log is None:
            self._log = LogFile.open(self.path)
            self._save(self._active_spools)

    def recover(self, decoders: Mapping[int, Decoder]) -> None:
        """Finish the chunk that was under way when the service was killed (at most one of the spools has one)."""
        if self.path is None or self._mark is None:
            return
        mark = self._mark
        self._log = LogFile.find(self.path, mark.device, mark.inode)
        for index, decoder in decoders.items():
            with closing(self._spool(index)) as spool:
                rendered = decoder.render(spool.pending, self._last_ns)
                if not rendered.text and spool.pending:
                    rendered = self._begun_flush(spool, decoder, mark.log_bytes)
                if rendered.text:
                    self._resume(spool, index, rendered, mark.log_bytes)
        if self._log is not None and self._moved(mark.inode):
            self._reopen_if_possible()

    def _begun_flush(self, spool: Spool, decoder: Decoder, log_bytes: int) -> Rendered:
        """What was left at the end of a stream, if some of it is in the file already."""
        rendered = decoder.flush(spool.pending, self._last_ns)
        if self._log is not None and self._log.has_begun(log_bytes, rendered.text):
            return rendered
        return Rendered(b"", 0, 0, self._last_ns)

    def _resume(self, spool: Spool, index: int, rendered: Rendered, log_bytes: int) -> None:
        if self._log is None:
            self._write(rendered)
        else:
            self._count(rendered, self._log.resume(log_bytes, rendered.text))
        self._counters.recovered_chunks += 1
        self._commit_spool(spool, index, rendered)

    def abandon(self, index: int, decoder: Decoder) -> None:
        """A FIFO is gone for good: write what had been taken of its last, unfinished frame."""
        if self.path is not None:
            with closing(self._spool(index)) as spool:
                self._flush(spool, index, decoder)

    def _moved(self, inode: int) -> bool:
        """Whether another file is at the path: then a rotation was under way and had got that far."""
        assert self.path is not None
        try:
            return os.lstat(self.path).st_ino != inode
        except FileNotFoundError:
            return False

    def _reopen_if_possible(self) -> None:
        try:
            self.reopen()
        except CriError as error:
            logger.warning("container %s: %s", self.container_id, error)

    def add_source(self, fifo_path: str, fd: int, decoder: Decoder, index: int | None = None) -> Source:
        """Begin to read a FIFO, or go on with one that had this index."""
        if index is None:
            index = min({0, 1} - {source.index for source in self.sources.values()})
        source = Source(fifo_path, fd, decoder, None if self.path is None else self._spool(index), index)
        self.sources[fifo_path] = source
        return source

    def _spool(self, index: int) -> Spool:
        return Spool(self._directory, index, self._active_spools >> index & 1)

    def turn(self, source: Source, on_end: Callable[[], None]) -> Turn:
        """Move what the FIFO holds to the log, up to a fair share; `on_end` is called when no writer is left."""
        fullness = source.fullness()
        self._counters.full_pipes += fullness > _FULL
        if self.tees.block():
            return Turn(fullness)
        moved, ended = self._move(source, self._chunk_bytes if self.tees else _TURN_BYTES)
        if ended:
            on_end()
        return Turn(
            fullness, more=moved > 0 and not ended
        )  # only a look that finds nothing tells whether it is the end

    def drain(self, source: Source) -> None:
        """Move all that the FIFO holds now; what cannot be completed any more is written as it is."""
        self._move(source, source.capacity_bytes)
        if source.spool is not None:
            self._flush(source.spool, source.index, source.decoder)

    def _flush(self, spool: Spool, index: int, decoder: Decoder) -> None:
        if spool.pending:
            self._set_time(decoder)
            rendered = decoder.flush(spool.pending, self._last_ns)
            self._write(rendered)
            self._commit_spool(spool, index, rendered)

    def remove_source(self, source: Source) -> None:
        """Stop reading a FIFO."""
        self.sources.pop(source.fifo_path, None)
        source.close()

    def reopen(self) -> None:
        """Rotation: from now on write to a new file at the path."""
        if self.path is None:
            return
        if self._log is None:
            self._log = LogFile.open(self.path)
        else:
            self._log.reopen()
        self._save(self._active_spools)
        self._counters.rotations += 1

    def close(self) -> None:
        """Close everything; the directory keeps what a later process needs to go on."""
        for source in list(self.sources.values()):
            self.remove_source(source)
        if self._log is not None:
            self._log.close()
        if self._trash >= 0:
            os.close(self._trash)
        self._journal.close()

    @property
    def _active_spools(self) -> int:
        return self._mark.active_spools if self._mark else 0

    @property
    def _last_ns(self) -> int:
        return self._mark.last_ns if self._mark else 0

    def _move(self, source: Source, limit_bytes: int) -> tuple[int, bool]:
        """Move chunks until the FIFO is empty, ended, or `limit_bytes` are moved; answer (moved, ended)."""
        moved = 0
        while moved < limit_bytes:
            try:
                taken = self._take(source)
            except BlockingIOError:
                break
            if not taken:
                return moved, True
            moved += taken
            self._counters.read_bytes += taken
            if taken < self._chunk_bytes:
                break
        return moved, False

    def _take(self, source: Source) -> int:
        """Move one chunk; answer its size, 0 at the end of the stream; BlockingIOError when there is none."""
        if source.spool is not None:
            self._set_time(source.decoder)
            data = self._fill(source.fd, source.spool)
            if data:
                self._absorb(source, source.spool)
        elif self.tees:
            data = os.read(source.fd, self._chunk_bytes)
        else:
            return os.splice(source.fd, self._trash, self._chunk_bytes, None, None, os.SPLICE_F_NONBLOCK)
        if data and self.tees:
            self.tees.give(source.index + 1, data)
        return len(data)

    def _fill(self, fd: int, spool: Spool) -> bytes:
        try:
            return spool.fill(fd, self._chunk_bytes)
        except BlockingIOError:
            raise
        except OSError:
            self._counters.failures += 1
            data = os.read(fd, self._chunk_bytes)
            spool.take(data)
            return data

    def _set_time(self, decoder: Decoder) -> None:
        """What has no time of its own gets that of its arrival, noted first: a repeated run must give the same text."""
        if not decoder.timed:
            self._save(self._active_spools, not_before(time.time_ns(), self._last_ns))

    def _absorb(self, source: Source, spool: Spool) -> None:
        pending = spool.pending
        try:
            rendered = source.decoder.render(pending, self._last_ns)
            self._write(rendered)
        except Exception:  # the container must not stall, and other logs must go on
            logger.exception("container %s: dropping %d raw log bytes", self.container_id, len(pending))
            self._counters.failures += 1
            rendered = Rendered(b"", len(pending), 0, self._last_ns, len(pending))
        self._counters.dropped_bytes += rendered.skipped_bytes
        self._commit_spool(spool, source.index, rendered)

    def _write(self, rendered: Rendered) -> None:
        if not rendered.text:
            return
        if self._log is None:
            self._open_again()
        else:
            self._log.refresh()
            if self._mark is None or self._mark.log_bytes != self._log.length or self._mark.inode != self._log.inode:
                self._save(self._active_spools)  # others changed the file since the last commit
        self._count(rendered, self._log.append(rendered.text) if self._log is not None else 0)

    def _open_again(self) -> None:
        """A log file that could not be opened when the service came back is tried again now and then."""
        if self.path is None or time.monotonic() < self._next_open:
            return
        self._next_open = time.monotonic() + _REOPEN_SECONDS
        try:
            self.open_file()
        except CriError as error:
            logger.warning("container %s: %s", self.container_id, error)

    def _count(self, rendered: Rendered, kept: int) -> None:
        lost_lines = rendered.text.count(b"\n", kept) if kept < len(rendered.text) else 0
        self._counters.written_bytes += kept
        self._counters.written_lines += rendered.lines - lost_lines
        self._counters.dropped_bytes += len(rendered.text) - kept
        self._counters.dropped_lines += lost_lines

    def _commit_spool(self, spool: Spool, index: int, rendered: Rendered) -> None:
        spool.stage(spool.pending[rendered.consumed :])
        self._save(self._active_spools ^ 1 << index, rendered.last_ns)
        spool.flip()

    def _save(self, active_spools: int, last_ns: int | None = None) -> None:
        log = self._log
        self._mark = Mark(
            active_spools,
            log.device if log else 0,
            log.inode if log else 0,
            log.length if log else 0,
            self._last_ns if last_ns is None else last_ns,
        )
        self._journal.save(self._mark)
