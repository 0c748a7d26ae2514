"""Churn pods on both engines for a time, break what can break, and see that nothing is lost, wrong or left behind.

python -m tests.soak --minutes 15 [--engines docker-20.10,containerd-2.1] [--seed N] [--workers N] [--output json]

Everything is private and goes at the end. Exits with 1 when something was found; the daemons' logs are kept then.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.backends.containerd.layered import Pusher, layered, random_tars
from tests.engines import RegistryServer
from tests.processes import erase_abandoned
from tests.soak import census, report
from tests.soak.driver import Driver
from tests.soak.events import EventWatch
from tests.soak.faults import Faults
from tests.soak.findings import Book
from tests.soak.life import Life, NewImage
from tests.soak.node import SoakNode
from tests.soak.windows import Windows

ROUND_S = 45.0
PROGRESS_S = 15.0
#: The part of the run in which the service itself is killed; later on its growth is measured.
SERVICE_FAULTS_SHARE = 0.4
_WARM_UP_PODS = 6
_LAYERS, _LAYER_BYTES = 2, 150_000


class Soak:
    """A run on a node."""

    def __init__(
        self, node: SoakNode, windows: Windows, book: Book, seed: int, workers: int, new_image: NewImage
    ) -> None:
        self._node = node
        self._windows = windows
        self._book = book
        self._seed = seed
        self._workers = workers
        self._new_image = new_image
        self._cri = node.client()
        self._serial = 0
        self._lock = threading.Lock()
        #: Ids of all pods and containers that ever were.
        self.ids: set[str] = set()
        self.pods = 0

    def close(self) -> None:
        """Close the connection."""
        self._cri.close()

    def churn(self, go_on: Callable[[], bool]) -> set[str]:
        """Run pods in parallel as long as `go_on`; return the ids of pods and containers."""
        made: set[str] = set()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="pods") as pool:
            for done in [pool.submit(self._work, go_on, made) for _ in range(self._workers)]:
                done.result()
        return made

    def _work(self, go_on: Callable[[], bool], made: set[str]) -> None:
        while go_on():
            with self._lock:
                self._serial += 1
                number = self._serial
                self.pods += 1
            chance = random.Random(f"{self._seed} {number}")
            engine = chance.choice(list(self._node.engines))
            driver = Driver(self._cri, self._node.small_logs, self._windows, self._book, engine)
            life = Life(driver, self._book, chance, self._node.new_uid(engine), self._new_image, self.ids)
            try:
                life.run()
            except Exception as error:
                self._book.find(f"pod {number} on {engine}: {type(error).__name__}: {error}")
            made |= life.ids

    def warm_up(self) -> census.Things:
        """Run some pods, so that all that is made once is made, and return what there is then.

        What a census cannot see would never be found: each kind of thing must have been there while pods ran.
        """
        target = self._serial + _WARM_UP_PODS * self._workers
        with ThreadPoolExecutor(1) as pool:
            pods = pool.submit(self.churn, lambda: self._serial < target)
            seen = [census.things(self._node, self.ids)]
            while not pods.done():
                seen.append(census.things(self._node, self.ids))
            pods.result()
        baseline = census.settled(self._node, self.ids)
        for kind in census.unseen(seen, baseline):
            self._book.find(f"the census is blind: it has seen no {kind} while pods ran")
        return baseline


def soak(node: SoakNode, result: report.Result, book: Book, new_image: NewImage, seconds: float, workers: int) -> None:
    """Run; what is wrong is in the book."""
    with contextlib.ExitStack() as stack:
        windows = Windows()
        faults = stack.enter_context(Faults(node, windows, book, random.Random(f"{result.seed} faults")))
        run = Soak(node, windows, book, result.seed, workers, new_image)
        stack.callback(run.close)
        events = stack.enter_context(EventWatch(node, windows, book))
        before = census.things(node, ())
        baseline = run.warm_up()
        result.made_once = census.grown(before, baseline)
        for kind, items in result.made_once.items():
            if not kind.startswith("files of"):  # directories that are made once
                book.find(f"left behind by the first pods: {len(items)} {kind}: {items[:4]}")
        began_s = time.monotonic()
        stack.enter_context(_progress(run, faults, book, began_s))
        measured_pid, pods_before = 0, 0
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            faults.service_may_end = elapsed_s < seconds * SERVICE_FAULTS_SHARE
            round_began_s = time.monotonic()
            until_s = min(round_began_s + ROUND_S, began_s + seconds)
            with faults.allowed():
                made = run.churn(partial(_is_before, until_s))
            left = census.left_over(node, run.ids, baseline)
            for kind, items in left.items():
                book.find(f"left behind after a round: {len(items)} {kind}: {items[:4]}")
                result.left[kind] = result.left.get(kind, 0) + len(items)
            baseline = {kind: known | frozenset(left.get(kind, ())) for kind, known in baseline.items()}
            if missing := events.missing(made, round_began_s):
                book.find(f"of {len(missing)} of {len(made)} pods and containers events are missing: {missing[:2]}")
            events.forget()
            now = census.figures(node)
            if node.server.daemon.pid != measured_pid:
                measured_pid, pods_before, result.first = node.server.daemon.pid, run.pods, now
            result.last, result.pods_measured = now, run.pods - pods_before
            result.rounds.append({"seconds": time.monotonic() - began_s, "pods": float(run.pods), **now})
        result.seconds = time.monotonic() - began_s
        result.longest_recovery_s = faults.longest_recovery_s
        for text in result.too_much():
            book.find(f"the service has grown: {text}")
        for text in report.service_faults(node.server.daemon.log):
            book.find(f"in the service's log: {text}")


def _is_before(moment_s: float) -> bool:
    return time.monotonic() < moment_s


@contextlib.contextmanager
def _progress(run: Soak, faults: Faults, book: Book, began_s: float) -> Iterator[None]:
    """Print a line now and then."""
    stop = threading.Event()

    def tell() -> None:
        while not stop.wait(PROGRESS_S):
            broken = sum(number for what, number in book.counts.items() if what.startswith("fault: "))
            print(
                f"{time.monotonic() - began_s:6.0f} s  {run.pods} pods  {sum(book.calls.values())} calls  "
                f"{sum(book.excused.values())} excused  {broken} faults  {len(book.findings)} findings  {faults.now}",
                flush=True,
            )

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _new_image(registry: RegistryServer) -> str:
    """Push an image that no engine has ever seen, and return its reference."""
    image = layered(random_tars(_LAYERS, _LAYER_BYTES), ("",))
    return Pusher(registry.address, "soak/image", "").image(image, secrets.token_hex(8))


def main() -> int:
    """Run with the arguments of the command line, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long to churn (default: %(default)s)")
    parser.add_argument("--engines", default="docker-20.10,containerd-2.1", help="one, or a Docker and a containerd")
    parser.add_argument("--seed", type=int, default=0, help="repeats the choices of an earlier run")
    parser.add_argument("--workers", type=int, default=4, help="pods at the same time (default: %(default)s)")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print the result")
    parser.add_argument("--logs", type=Path, default=Path("build/soak"), help="where logs are kept when it fails")
    arguments = parser.parse_args()
    erase_abandoned()
    engines = arguments.engines.split(",")
    result, book = report.Result(arguments.seed or secrets.randbelow(1 << 30), engines), Book()
    print(f"seed {result.seed}", flush=True)
    with contextlib.ExitStack() as stack:
        registry = RegistryServer()
        stack.callback(registry.close)
        registry.start()
        node = SoakNode(engines, stack)
        soak(node, result, book, partial(_new_image, registry), arguments.minutes * 60, arguments.workers)
        if book.findings:
            node.keep_logs(arguments.logs / str(result.seed))
    print(report.as_json(result, book) if arguments.output == "json" else report.table(result, book))
    if book.findings:
        print(f"the daemons' logs are in {arguments.logs / str(result.seed)}")
    return 1 if book.findings else 0


if __name__ == "__main__":
    sys.exit(main())
