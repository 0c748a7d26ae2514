"""Clients that keep asking pods, and note when they got no answer."""

from __future__ import annotations

import threading
import time

from tests.kubelet import AppPod, Kubelet
from tests.migration.asking import get

_PAUSE_S = 0.05


class Traffic:
    """Asks every pod in turn, all the time; used as a context."""

    def __init__(self, kubelet: Kubelet, pods: list[AppPod]) -> None:
        self._kubelet = kubelet
        self._pods = pods
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(pod,), daemon=True) for pod in pods]
        self._down: set[str] = set()
        self._lock = threading.Lock()
        self.answers: dict[str, int] = dict.fromkeys((pod.name for pod in pods), 0)
        self.wrong: list[str] = []
        self.most_down = 0
        self.down_s: dict[str, float] = {}

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, pod: AppPod) -> None:
        address, down_since = self._kubelet.address(pod), 0.0
        while not self._stop.wait(_PAUSE_S):
            body = get(address) if address else None
            if body is None:
                down_since = down_since or time.monotonic()
                self._note(pod, down=True)
                address = self._address(pod)
                continue
            if body.strip() != pod.name:
                self.wrong.append(f"{pod.name} at {address} says {body!r}")
            if down_since:
                self.down_s[pod.name] = max(self.down_s.get(pod.name, 0.0), time.monotonic() - down_since)
                down_since = 0.0
            self._note(pod, down=False)
            self.answers[pod.name] += 1

    def _address(self, pod: AppPod) -> str:
        try:
            return self._kubelet.address(pod)
        except Exception:
            return ""

    def _note(self, pod: AppPod, *, down: bool) -> None:
        with self._lock:
            (self._down.add if down else self._down.discard)(pod.name)
            self.most_down = max(self.most_down, len(self._down))
