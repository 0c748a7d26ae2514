"""Whether the kernel killed a container's processes for want of memory: what the shim tells, and the cgroup's counter.

On cgroup v2 the shim may tell of it after the exit, so the counter is read before the task, and with it the cgroup, is
deleted (CST-07).
"""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_LINE = b"oom_kill "


class OomKills:
    """Remembers where the counters of running containers are; reading one is a read of one small kernel file."""

    def __init__(self, proc: Path = _PROC, cgroup_root: Path = _CGROUP_ROOT) -> None:
        self._proc = proc
        self._root = cgroup_root
        self._told: set[str] = set()
        self._counters: dict[str, Path] = {}

    def watch(self, container_id: str, pid: int) -> None:
        """Find the counter of a container by its first process."""
        if container_id not in self._counters and (counter := self._counter_of(pid)) is not None:
            self._counters[container_id] = counter

    def tell(self, container_id: str) -> None:
        """The shim says that there was a kill."""
        self._told.add(container_id)

    def any(self, container_id: str) -> bool:
        """Whether there was a kill in the container."""
        return container_id in self._told or self._count(self._counters.get(container_id)) > 0

    def forget(self, container_id: str) -> None:
        """The container has ended and is dealt with, or is gone."""
        self._told.discard(container_id)
        self._counters.pop(container_id, None)

    def _counter_of(self, pid: int) -> Path | None:
        try:
            lines = (self._proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            return None
        paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
        for controllers, path in paths.items():
            if "memory" in controllers.split(","):
                return self._root / "memory" / path.lstrip("/") / "memory.oom_control"
        if "" in paths:
            return self._root / paths[""].lstrip("/") / "memory.events"
        return None

    @staticmethod
    def _count(counter: Path | None) -> int:
        if counter is None:
            return 0
        try:
            lines = counter.read_bytes().splitlines()
            return sum(int(line.removeprefix(_LINE)) for line in lines if line.startswith(_LINE))
        except (OSError, ValueError):
            return 0
