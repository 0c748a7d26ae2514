"""Faults at random moments, one after the other, and which failures of calls each of them excuses."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from tests.soak.findings import Book
from tests.soak.node import SoakNode

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 9.0
_RECOVERY_WITHIN_S = 45.0
#: How long after its end a fault still excuses failures: clients wait between two attempts to connect.
_AFTERMATH_S = 4.0
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


@dataclass(slots=True)
class Window:
    """A fault's time, as `time.monotonic()`; `engine` is the one that is away, empty when none is."""

    kind: str
    engine: str
    began_s: float
    ended_s: float = math.inf

    @property
    def is_of_service(self) -> bool:
        """Whether the service itself was away."""
        return self.kind.startswith("service")

    def overlaps(self, began_s: float, ended_s: float) -> bool:
        """Whether anything between these moments may have suffered from it."""
        return self.began_s <= ended_s and began_s <= self.ended_s + _AFTERMATH_S

    def touches(self, engine: str) -> bool:
        """Whether what is on an engine, or on any when it is empty, loses its engine or the service by it."""
        return self.is_of_service or (bool(self.engine) and engine in ("", self.engine))

    def excuses(self, code: grpc.StatusCode, details: str, engine: str) -> bool:
        """Whether a call about an object on an engine may end so."""
        if self.kind.startswith("CNI"):
            return "on purpose" in details or "breakable" in details
        if self.kind == "log disk full":
            return code is grpc.StatusCode.RESOURCE_EXHAUSTED or "No space left" in details
        return self.touches(engine) and code in _TRANSIENT


class Faults:
    """Breaks things in a thread of its own; `quiet()` waits until all is whole and keeps it so."""

    def __init__(self, node: SoakNode, book: Book, chance: random.Random) -> None:
        self._node = node
        self._book = book
        self._chance = chance
        self._windows: list[Window] = []
        self._quiet = threading.Lock()
        self._stop = threading.Event()
        self._bag: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)
        self.now = ""
        self.longest_recovery_s = 0.0
        #: Ends with the part of the run in which the service may be restarted: its growth is measured after that.
        self.service_may_end = True

    def __enter__(self) -> Faults:
        self._quiet.acquire()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(RuntimeError):
            self._quiet.release()
        self._thread.join()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let faults happen inside; when this is left all is whole."""
        self._quiet.release()
        try:
            yield
        finally:
            self._quiet.acquire()

    def windows(self, began_s: float, ended_s: float | None = None) -> list[Window]:
        """Return the faults that may have disturbed what was going on between these moments."""
        until = time.monotonic() if ended_s is None else ended_s
        return [window for window in list(self._windows) if window.overlaps(began_s, until)]

    def excuse(self, error: grpc.RpcError, began_s: float, engine: str) -> str:
        """Return the kind of fault that excuses a call's failure, empty when none does."""
        code, details = error.code(), error.details() or ""
        found = (window.kind for window in self.windows(began_s) if window.excuses(code, details, engine))
        return next(found, "")

    def _run(self) -> None:
        while not self._stop.wait(self._chance.uniform(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S)):
            with self._quiet:
                if self._stop.is_set():
                    return
                try:
                    self._next()()
                except (TimeoutError, RuntimeError, OSError) as error:
                    self._book.find(f"the node did not come back after {self.now}: {error}")

    def _next(self) -> Callable[[], None]:
        """Take from a shuffled bag that has every fault once, so that all kinds come equally often."""
        if not self._bag:
            self._bag = [self._cni_add_fails, self._cni_del_fails, self._cni_hangs, self._log_disk_full]
            for engine in self._node.engines:
                for fault in (self._engine_restart, self._engine_kill, self._engine_hang):
                    self._bag.append(_bound(fault, engine))
            if self.service_may_end:
                self._bag += [self._service_kill, self._service_kill, self._service_restart]
            self._chance.shuffle(self._bag)
        return self._bag.pop()

    @contextlib.contextmanager
    def _window(self, kind: str, engine: str = "") -> Iterator[None]:
        window = Window(kind, engine, time.monotonic())
        self._windows.append(window)
        self.now = kind
        try:
            yield
            self._recovered()
        finally:
            window.ended_s = time.monotonic()
            self.now = ""
        self._book.count(f"fault: {kind}")

    def _recovered(self) -> None:
        began_s = time.monotonic()
        while not all(self._node.is_ready(engine) for engine in self._node.engines):
            if time.monotonic() - began_s > _RECOVERY_WITHIN_S:
                away = [engine for engine in self._node.engines if not self._node.is_ready(engine)]
                self._book.find(f"{', '.join(away)} is not ready {_RECOVERY_WITHIN_S:.0f} s after {self.now}")
                break
            time.sleep(0.1)
        self.longest_recovery_s = max(self.longest_recovery_s, time.monotonic() - began_s)

    def _wait(self, longest_s: float) -> None:
        time.sleep(self._chance.uniform(0.0, longest_s))

    # --- the faults

    def _engine_restart(self, name: str) -> None:
        with self._window(f"{name} restart", name):
            engine = self._node.engines[name]
            engine.stop()
            self._wait(4.0)
            engine.start()

    def _engine_kill(self, name: str) -> None:
        with self._window(f"{name} kill", name):
            engine = self._node.engines[name]
            engine.kill()
            self._wait(4.0)
            engine.start()

    def _engine_hang(self, name: str) -> None:
        with self._window(f"{name} hang", name):
            engine = self._node.engines[name]
            engine.daemon.signal(signal.SIGSTOP)
            try:
                self._wait(12.0)
            finally:
                engine.thaw()

    def _service_kill(self) -> None:
        with self._window("service kill"):
            self._node.server.kill()
            self._wait(3.0)
            self._node.server.start()

    def _service_restart(self) -> None:
        with self._window("service restart"):
            if (code := self._node.server.stop()) != 0:
                self._book.find(f"the service ended with {code} on SIGTERM")
            self._node.server.start()

    def _cni_add_fails(self) -> None:
        self._cni("ADD fails", "ADD", 4.0)

    def _cni_del_fails(self) -> None:
        self._cni("DEL fails", "DEL", 4.0)

    def _cni_hangs(self) -> None:
        self._cni("hangs", "HANG", 10.0)

    def _cni(self, what: str, file: str, longest_s: float) -> None:
        with self._window(f"CNI {what}"):
            (self._node.breaks / file).touch()
            try:
                self._wait(longest_s)
            finally:
                (self._node.breaks / file).unlink()

    def _log_disk_full(self) -> None:
        with self._window("log disk full"):
            filler = self._node.small_logs / "filler"
            try:
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 16))
                self._wait(5.0)
            finally:
                filler.unlink(missing_ok=True)


def _bound(fault: Callable[[str], None], engine: str) -> Callable[[], None]:
    return lambda: fault(engine)
