"""Calls as kubelet makes them: what fails while something is broken is tried again, everything else is a finding."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tests.behaviour.client import Cri
from tests.soak.findings import Abandoned, Book
from tests.soak.windows import Windows

_PAUSE_S = 0.5
_GIVE_UP_S = 150.0
_REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}
Result = TypeVar("Result")


class Driver:
    """Makes calls about objects on one engine; `engine` is empty for calls about no object."""

    def __init__(self, cri: Cri, small_logs: Path, windows: Windows, book: Book, engine: str = "") -> None:
        self.cri = cri
        self.small_logs = small_logs
        self.engine = engine
        self._windows = windows
        self._book = book

    def once(self, method: str, *, may_refuse: Callable[[], bool] = lambda: False, **fields: Any) -> Any:
        """Make a call and return its response, or None when it failed as it may: by a fault, or by the object's state.

        `may_refuse` says afterwards whether the object's state allowed a refusal.
        """
        began_s = time.monotonic()
        try:
            response = self.cri(method, **fields)
        except grpc.RpcError as error:
            if error.code() not in _REFUSALS or not may_refuse():
                self._judge(method, error, began_s)
            return None
        self._book.called(method, "OK")
        return response

    def __call__(self, method: str, **fields: Any) -> Any:
        """Make a call until it succeeds."""
        return self.until(lambda: self.once(method, **fields), f"{method} on {self.engine or 'the node'}")

    def until(self, attempt: Callable[[], Result | None], what: str) -> Result:
        """Repeat an attempt that returns None when it failed as it may."""
        began_s = time.monotonic()
        while (result := attempt()) is None:
            if time.monotonic() - began_s > _GIVE_UP_S:
                self.fail(f"{what}: no success within {_GIVE_UP_S:.0f} s")
            threading.Event().wait(_PAUSE_S)
        return result

    def disturbed(self, began_s: float) -> bool:
        """Whether this engine or the service was away since then, so that a session may have broken off."""
        return any(window.touches(self.engine) for window in self._windows.during(began_s))

    def suffered(self, kinds: Sequence[str], began_s: float) -> bool:
        """Whether there was a fault of one of these kinds since then."""
        return any(window.kind in kinds for window in self._windows.during(began_s))

    def count(self, what: str, number: int = 1) -> None:
        """Add to a count."""
        self._book.count(what, number)

    def find(self, text: str) -> None:
        """Note something that is wrong, with the faults of the last time."""
        recent = [window.kind for window in self._windows.during(time.monotonic() - 20.0)]
        self._book.find(f"{self.engine}: {text} (recent faults: {', '.join(recent) or 'none'})")

    def fail(self, text: str) -> None:
        """Note something that is wrong, and give the pod up."""
        self.find(text)
        raise Abandoned(text)

    def _judge(self, method: str, error: grpc.RpcError, began_s: float) -> None:
        code = error.code().name
        self._book.called(method, code)
        fault = self._windows.excuse(error, began_s, self.engine)
        if not fault:
            self.fail(f"{method}: {code}: {error.details()}")
        self._book.excuse(code, fault)
