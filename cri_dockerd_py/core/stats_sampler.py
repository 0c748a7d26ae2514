"""Samples of cgroups, taken on demand in one thread and shared by calls that come close together."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from cri_dockerd_py.cgroups.base import CgroupProbe, CgroupReader, parent_of
from cri_dockerd_py.cgroups.usage import BasicUsage, CgroupDirs

FRESH_NS = 100_000_000
_RATE_MIN_NS = 1_000_000_000
_RATE_MAX_NS = 120_000_000_000
_MAX_DESCRIPTORS = 4096
_PARENT_MARK = "^"
_LOG = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class StatsTarget:
    """A container or sandbox to sample: its id and the host's pid of its first process."""

    id: str
    pid: int
    #: Name of the pod's cgroup when the parent of the target's cgroup is to be sampled instead of its own.
    parent_name: str = ""

    @property
    def key(self) -> str:
        """What the samples are remembered by."""
        return self.id + _PARENT_MARK if self.parent_name else self.id


@dataclass(frozen=True, slots=True)
class Sample:
    """What a cgroup had used at a moment; `cpu_nano_cores` is the rate since a sample of a second or more before."""

    timestamp_ns: int
    usage: BasicUsage
    cpu_nano_cores: int | None


@dataclass(slots=True)
class _Track:
    pid: int
    dirs: CgroupDirs | None = None
    probe: CgroupProbe | None = None
    sample: Sample | None = None
    sampled_at_ns: int = 0
    #: Two earlier points (monotonic ns, CPU ns): the rate is taken from `base`, the next base will be `candidate`.
    base: tuple[int, int] | None = None
    candidate: tuple[int, int] | None = None


class StatsSampler:
    """Reads cgroups in a thread of its own; what is younger than a tenth of a second is not read again."""

    def __init__(
        self,
        reader: CgroupReader,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        max_descriptors: int = _MAX_DESCRIPTORS,
    ) -> None:
        self.reader = reader
        self._monotonic_ns = monotonic_ns
        self._tracks: dict[str, _Track] = {}
        self._descriptors = 0
        self._closed = False
        self._descriptors_limit = min(max_descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stats")

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the sampler's thread, where the methods below may be called."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread after the work it has begun."""
        self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)
        for track in self._tracks.values():
            self._let_go(track)
        self._tracks.clear()

    def forget_soon(self, object_id: str) -> None:
        """The object has ended, or is gone: an open file would keep its dead cgroup in the kernel."""
        if not self._closed:
            self._thread.submit(self._forget, object_id)

    # --- in the thread

    def _forget(self, object_id: str) -> None:
        for key in (object_id, object_id + _PARENT_MARK):
            track = self._tracks.pop(key, None)
            if track is not None:
                self._let_go(track)

    def sample(self, target: StatsTarget) -> Sample | None:
        """Return a fresh sample of the target; None when its cgroup is gone or cannot be read."""
        track = self._track(target)
        now_ns = self._monotonic_ns()
        if track.sample is not None and now_ns - track.sampled_at_ns < FRESH_NS:
            return track.sample
        usage = self._read(target, track)
        if usage is None:
            self._let_go(track)
            return None
        track.sampled_at_ns = now_ns
        track.sample = Sample(time.time_ns(), usage, _rate(track, now_ns, usage.cpu_usage_ns))
        return track.sample

    def dirs(self, target: StatsTarget) -> CgroupDirs | None:
        """Return where the target's cgroup is."""
        return self._locate(target, self._track(target))

    def _track(self, target: StatsTarget) -> _Track:
        track = self._tracks.get(target.key)
        if track is None or track.pid != target.pid:
            if track is not None:
                self._let_go(track)
            track = self._tracks[target.key] = _Track(target.pid)
        return track

    def _let_go(self, track: _Track) -> None:
        if track.probe is not None:
            self._descriptors -= track.probe.descriptors
            track.probe.close()
        track.dirs = track.probe = track.sample = None

    def _read(self, target: StatsTarget, track: _Track) -> BasicUsage | None:
        try:
            dirs = self._locate(target, track)
            if dirs is None:
                return None
            if track.probe is None:
                track.probe = self.reader.probe(dirs)
            return self._read_probe(track.probe)
        except Exception:
            _LOG.exception("reading the cgroup of %s (process %d) failed; it is left out", target.id, target.pid)
            return None

    def _read_probe(self, probe: CgroupProbe) -> BasicUsage | None:
        """Read, and keep the files open as long as there are descriptors to spare."""
        before = probe.descriptors
        usage = probe.basic()
        if self._descriptors + probe.descriptors - before > self._descriptors_limit:
            probe.close()
        self._descriptors += probe.descriptors - before
        return usage

    def _locate(self, target: StatsTarget, track: _Track) -> CgroupDirs | None:
        if track.dirs is not None:
            return track.dirs
        if target.pid <= 0:
            return None
        dirs = self.reader.locate(target.pid, target.id)
        if dirs is not None and target.parent_name:
            dirs = parent_of(dirs, target.parent_name)
        track.dirs = dirs
        return dirs


def _rate(track: _Track, now_ns: int, cpu_ns: int) -> int | None:
    """Return the mean CPU rate since the base, moving the points on."""
    if track.candidate is None:
        track.candidate = (now_ns, cpu_ns)
    elif now_ns - track.candidate[0] >= _RATE_MIN_NS:
        track.base, track.candidate = track.candidate, (now_ns, cpu_ns)
    if track.base is None or not _RATE_MIN_NS <= now_ns - track.base[0] <= _RATE_MAX_NS:
        return None
    return max(0, cpu_ns - track.base[1]) * 1_000_000_000 // (now_ns - track.base[0])
