"""What every cgroup version can be asked. A cgroup that has vanished answers None."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator

from cri_dockerd_py.cgroups.files import KeptFile, close_all, read_all, read_once
from cri_dockerd_py.cgroups.parse import process_cgroups
from cri_dockerd_py.cgroups.usage import BasicUsage, CgroupDirs, CgroupUsage

_MAX_CHILD_CGROUPS = 64


class CgroupProbe(ABC):
    """The files of one cgroup that CRI's stats are made of, kept open between readings."""

    files: tuple[KeptFile, ...]

    @abstractmethod
    def basic(self) -> BasicUsage | None:
        """Return what CRI's stats need; None when the cgroup is gone."""

    @property
    def descriptors(self) -> int:
        """Number of files that are open now."""
        return sum(file.is_open for file in self.files)

    def close(self) -> None:
        """Close the files; the next reading opens them again."""
        close_all(self.files)


class CgroupReader(ABC):
    """Finds and reads cgroups of one version below the root that it was made for."""

    def __init__(self, proc_root: str = "/proc") -> None:
        self._proc_root = proc_root

    def locate(self, pid: int, object_id: str) -> CgroupDirs | None:
        """Return the directories of the cgroup that was made for `object_id`, found through one of its processes.

        A path without the id is not taken: the process may have ended and another one may have got its pid.
        """
        data = read_once(f"{self._proc_root}/{pid}/cgroup")
        if data is None:
            return None
        paths = process_cgroups(data)
        return self._dirs({name: cut_below(path, object_id) for name, path in paths.items() if object_id in path})

    @abstractmethod
    def _dirs(self, paths: dict[str, str]) -> CgroupDirs | None:
        """Turn controller → path below the hierarchy's root into directories; None when the main ones are missing."""

    @abstractmethod
    def probe(self, dirs: CgroupDirs) -> CgroupProbe:
        """Return what reads the few figures that CRI's stats need."""

    def basic(self, dirs: CgroupDirs) -> BasicUsage | None:
        """Return what CRI's stats need, once."""
        probe = self.probe(dirs)
        try:
            return probe.basic()
        finally:
            probe.close()

    @abstractmethod
    def full(self, dirs: CgroupDirs) -> CgroupUsage | None:
        """Return all that is known; several times the cost of `basic`."""

    @abstractmethod
    def task_count(self, dirs: CgroupDirs) -> int | None:
        """Return the number of tasks in the cgroup and below it."""

    @abstractmethod
    def _process_dir(self, dirs: CgroupDirs) -> str | None:
        """Return the directory whose `cgroup.procs` lists the processes."""

    def pids(self, dirs: CgroupDirs) -> list[int]:
        """Return the processes of the cgroup and of the cgroups below it."""
        top = self._process_dir(dirs)
        if top is None:
            return []
        found: list[int] = []
        for directory in _with_children(top):
            found.extend(int(word) for word in (read_all(f"{directory}/cgroup.procs") or b"").split())
        return found


def cut_below(path: str, object_id: str) -> str:
    """Return the path up to the component that holds the id: a process may have moved to a cgroup of its own below."""
    start = path.find(object_id)
    if start < 0:
        return path
    end = path.find("/", start)
    return path if end < 0 else path[:end]


def parent_of(dirs: CgroupDirs, parent_name: str) -> CgroupDirs | None:
    """Return the directories one level up if their name is the last part of `parent_name`, else None."""
    wanted = parent_name.rstrip("/").rpartition("/")[2]
    above = {controller: directory.rpartition("/")[0] for controller, directory in dirs.items()}
    if not wanted or any(directory.rpartition("/")[2] != wanted for directory in above.values()):
        return None
    return above


def _with_children(top: str) -> Iterator[str]:
    waiting = [top]
    for _ in range(_MAX_CHILD_CGROUPS):
        if not waiting:
            return
        directory = waiting.pop()
        yield directory
        try:
            with os.scandir(directory) as entries:
                waiting.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
