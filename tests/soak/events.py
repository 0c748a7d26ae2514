"""A client of the event stream that never leaves, as kubelet's with evented PLEG."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

import grpc

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.soak.findings import Book
from tests.soak.node import SoakNode
from tests.soak.windows import Windows

_AGAIN_S = 0.3


class EventWatch:
    """Follows GetContainerEvents; `seen` are the kinds of events by container."""

    def __init__(self, node: SoakNode, windows: Windows, book: Book) -> None:
        self._node = node
        self._windows = windows
        self._book = book
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._cri = node.client()
        self.seen: dict[str, set[int]] = defaultdict(set)

    def __enter__(self) -> EventWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._cri.close()
        self._thread.join()

    def missing(self, container_ids: set[str], began_s: float) -> list[str]:
        """Return those of which not every event came, unless the service was away meanwhile."""
        if any(window.is_of_service for window in self._windows.during(began_s)):
            return []
        wanted = {pb.CONTAINER_CREATED_EVENT, pb.CONTAINER_STOPPED_EVENT, pb.CONTAINER_DELETED_EVENT}
        return sorted(one for one in container_ids if not wanted <= self.seen[one])

    def forget(self) -> None:
        """Forget what was seen."""
        self.seen.clear()

    def _run(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                for event in self._cri.stream("GetContainerEvents", deadline=None):
                    self._book.count("events")
                    self.seen[event.container_id].add(event.container_event_type)
            except (grpc.RpcError, ValueError) as error:
                if self._stop.is_set():
                    return
                if isinstance(error, ValueError) or not any(
                    window.is_of_service for window in self._windows.during(began_s)
                ):
                    self._book.find(f"the event stream ended: {error}")
            self._stop.wait(_AGAIN_S)
