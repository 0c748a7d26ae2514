"""Faults at random moments, one after the other."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.soak.findings import Book
from tests.soak.node import SoakNode
from tests.soak.windows import ALL_KILLED, DISK_FULL, Window, Windows

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 9.0
_RECOVERY_WITHIN_S = 45.0


class Faults:
    """Breaks things in a thread of its own, while it is `allowed()` to."""

    def __init__(self, node: SoakNode, windows: Windows, book: Book, chance: random.Random) -> None:
        self._node = node
        self._book = book
        self._chance = chance
        self.windows = windows
        self._quiet = threading.Lock()
        self._stop = threading.Event()
        self._bag: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)
        self.now = ""
        self.longest_recovery_s = 0.0
        #: Ends with the part of the run in which the service may be restarted: its growth is measured after that.
        self.service_may_end = True
        #: Let nothing happen at all.
        self.none = False

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

    def _run(self) -> None:
        while not self._stop.wait(self._chance.uniform(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S)):
            with self._quiet:
                if self._stop.is_set() or self.none:
                    return
                try:
                    self._next()()
                except (TimeoutError, RuntimeError, OSError) as error:
                    self._book.find(f"the node did not come back after {self.now}: {error}")

    def _next(self) -> Callable[[], None]:
        """Take from a shuffled bag that has every fault once, so that all kinds come equally often."""
        while True:
            if not self._bag:
                self._bag = [self._cni_add_fails, self._cni_del_fails, self._cni_hangs, self._log_disk_full]
                for engine in self._node.engines:
                    for of_engine in (self._engine_restart, self._engine_kill, self._engine_hang):
                        self._bag.append(partial(of_engine, engine))
                self._bag += self._of_service()
                self._chance.shuffle(self._bag)
            fault = self._bag.pop()
            if self.service_may_end or fault not in self._of_service():
                return fault

    def _of_service(self) -> list[Callable[[], None]]:
        return [self._service_kill, self._service_restart, self._all_kill]

    @contextlib.contextmanager
    def _window(self, kind: str, engine: str = "") -> Iterator[None]:
        window = Window(kind, engine, time.monotonic())
        self.windows.all.append(window)
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
            self._node.start_service()

    def _service_restart(self) -> None:
        with self._window("service restart"):
            if (code := self._node.server.stop()) != 0:
                self._book.find(f"the service ended with {code} on SIGTERM")
            self._node.start_service()

    def _all_kill(self) -> None:
        with self._window(ALL_KILLED):
            self._node.server.kill()
            for engine in self._node.engines.values():
                engine.kill()
            self._wait(2.0)
            with ThreadPoolExecutor() as pool:
                # Docker waits for the service, which is its log driver.
                starts = [pool.submit(engine.start) for engine in self._node.engines.values()]
                self._node.start_service()
                for start in starts:
                    start.result()

    def _cni_add_fails(self) -> None:
        self._cni("ADD fails", "ADD", 4.0)

    def _cni_del_fails(self) -> None:
        self._cni("DEL fails", "DEL", 4.0)

    def _cni_hangs(self) -> None:
        self._cni("hangs", "HANG", 20.0)

    def _cni(self, what: str, file: str, longest_s: float) -> None:
        with self._window(f"CNI {what}"):
            (self._node.breaks / file).touch()
            try:
                self._wait(longest_s)
            finally:
                (self._node.breaks / file).unlink()

    def _log_disk_full(self) -> None:
        with self._window(DISK_FULL):
            filler = self._node.small_logs / "filler"
            try:
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 16))
                self._wait(5.0)
            finally:
                filler.unlink(missing_ok=True)
