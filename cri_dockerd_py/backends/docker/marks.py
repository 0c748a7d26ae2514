"""What this process itself has under way on the engine, so that its echoes in the event stream cost nothing."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

_OOMS_LIMIT = 1024
_UNEXPLAINED_LIMIT = 64
#: The kernel's log is read later than it is written, on a busy machine; Docker notes a start later than it happens.
_TOLD_LATE_NS = 2_000_000_000
_NOTED_LATE_NS = 1_000_000_000


class Marks:
    """`killed` are the ids that SIGKILL was sent to; `made` those that this process created and knows all about.

    `ooms` are those in which the kernel has killed a process for want of memory, the latest last.
    """

    def __init__(self) -> None:
        self.killed: set[str] = set()
        self.ooms: dict[str, None] = {}
        self._unexplained_ooms_ns: deque[int] = deque(maxlen=_UNEXPLAINED_LIMIT)
        self.made: set[str] = set()
        self._making: dict[str, int] = {}

    @contextlib.contextmanager
    def making(self, name: str) -> Iterator[None]:
        """Mark the Docker name of an object that is being created."""
        self._making[name] = self._making.get(name, 0) + 1
        try:
            yield
        finally:
            self._making[name] -= 1
            if not self._making[name]:
                del self._making[name]

    def is_ours(self, object_id: str, name: str) -> bool:
        """Whether an event is about what this process creates or created."""
        return object_id in self.made or name.removeprefix("/") in self._making

    def note_oom(self, object_id: str) -> None:
        """The kernel has killed a process of this container, or of another program's: old ones are dropped."""
        self.ooms.pop(object_id, None)
        self.ooms[object_id] = None
        while len(self.ooms) > _OOMS_LIMIT:
            del self.ooms[next(iter(self.ooms))]

    def note_unexplained_oom(self, at_ns: int) -> None:
        """The kernel has killed a process for want of memory that was gone before its container could be told."""
        self._unexplained_ooms_ns.append(at_ns)

    def claim_oom(self, object_id: str, started_at_ns: int, finished_at_ns: int) -> bool:
        """Whether a container that got an unexplained SIGKILL died of such a kill; each explains one death."""
        for at_ns in self._unexplained_ooms_ns:
            if started_at_ns - _NOTED_LATE_NS <= at_ns <= finished_at_ns + _TOLD_LATE_NS:
                self._unexplained_ooms_ns.remove(at_ns)
                self.note_oom(object_id)
                return True
        return False

    def forget(self, object_id: str) -> None:
        """The object is gone."""
        self.killed.discard(object_id)
        self.made.discard(object_id)
        self.ooms.pop(object_id, None)
