"""What this process itself has under way on the engine, so that its echoes in the event stream cost nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Marks:
    """`killed` are the ids that SIGKILL was sent to; `made` those that this process created and knows all about."""

    def __init__(self) -> None:
        self.killed: set[str] = set()
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

    def forget(self, object_id: str) -> None:
        """The object is gone."""
        self.killed.discard(object_id)
        self.made.discard(object_id)
