"""The rounds of a run."""

from __future__ import annotations

import time
from collections import deque
from functools import partial

from tests.soak import census, report
from tests.soak.churn import Churn
from tests.soak.events import EventWatch
from tests.soak.faults import Faults
from tests.soak.node import SoakNode
from tests.soak.windows import CONTAINERD_KILLED, DOCKER_ENDED

_LAST_ROUNDS = 3


class Rounds:
    """The run's rounds: churn under faults, then quiet, a look at what was left, and the service's size."""

    def __init__(self, node: SoakNode, run: Churn, faults: Faults, events: EventWatch, result: report.Result) -> None:
        self._node = node
        self._run = run
        self._faults = faults
        self._events = events
        self._result = result
        self._book = run.book
        self._known: census.Things = {}
        self._measured_pid = 0
        self._pods_before = 0
        self._sizes: deque[census.Figures] = deque(maxlen=_LAST_ROUNDS)

    def begin(self) -> None:
        """Take the baseline: what is there without any pod, and the directories that the first pods make."""
        before = census.things(self._node, ())
        self._known = self._run.warm_up()
        self._result.made_once = census.grown(before, self._known)
        for kind, items in self._result.made_once.items():
            if not kind.startswith("files of"):
                self._book.find(f"left behind by the first pods: {len(items)} {kind}: {items[:4]}")

    def round(self, until_s: float) -> None:
        """Churn until a moment, and look."""
        began_s = time.monotonic()
        with self._faults.allowed():
            made = self._run.churn(partial(_is_before, until_s))
        self._run.remove_the_rest()
        self._look_for_leaks(began_s)
        if missing := self._events.missing(made, began_s):
            self._book.find(f"of {len(missing)} of {len(made)} pods and containers events are missing: {missing[:2]}")
        self._events.forget()
        self._measure()

    def _look_for_leaks(self, began_s: float) -> None:
        left = census.left_over(self._node, self._run.ids, self._known)
        kinds = {window.kind for window in self._faults.windows.during(began_s)}
        excused = census.dockers_own(self._node, left) if kinds.intersection(DOCKER_ENDED) else {}
        excused |= census.kept_by_leases(left)
        hidden = census.bundles_in_removal(left) if kinds.intersection(CONTAINERD_KILLED) else {}
        for kind, items in left.items():
            own = {*excused.get(kind, ()), *hidden.get(kind, ())}
            self._book.count(f"left for a time, or by an engine: {kind}", len(own))
            if found := [item for item in items if item not in own]:
                self._book.find(f"left behind after a round: {len(found)} {kind}: {found[:4]}")
                self._result.left[kind] = self._result.left.get(kind, 0) + len(found)
        self._known = {kind: items | frozenset(left.get(kind, ())) for kind, items in self._known.items()}

    def _measure(self) -> None:
        """Take the process's size; one that was started anew begins anew.

        Connections are kept for a while after their last use, so that only what no round gets below has grown.
        """
        now, pid, result = census.figures(self._node), self._node.server.daemon.pid, self._result
        if pid != self._measured_pid:
            self._measured_pid, self._pods_before, result.first = pid, self._run.pods, now
            self._sizes.clear()
        self._sizes.append(now)
        result.last = {name: min(size[name] for size in self._sizes) for name in now}
        result.pods_measured = self._run.pods - self._pods_before
        result.rounds.append({"seconds": time.monotonic() - self._book.began_s, "pods": float(self._run.pods), **now})


def _is_before(moment_s: float) -> bool:
    return time.monotonic() < moment_s
