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
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.backends.containerd.layered import Pusher, layered, random_tars
from tests.engines import RegistryServer
from tests.processes import erase_abandoned
from tests.soak import report
from tests.soak.churn import Churn
from tests.soak.events import EventWatch
from tests.soak.faults import Faults
from tests.soak.findings import Book
from tests.soak.life import NewImage
from tests.soak.node import SoakNode
from tests.soak.rounds import Rounds
from tests.soak.windows import Windows

ROUND_S = 45.0
PROGRESS_S = 15.0
#: The part of the run in which the service itself is killed; later on its growth is measured.
SERVICE_FAULTS_SHARE = 0.4
_LAYERS, _LAYER_BYTES = 2, 150_000


def soak(node: SoakNode, result: report.Result, book: Book, new_image: NewImage, arguments: argparse.Namespace) -> None:
    """Run; what is wrong is in the book."""
    seconds = arguments.minutes * 60
    with contextlib.ExitStack() as stack:
        windows = Windows()
        faults = stack.enter_context(Faults(node, windows, book, random.Random(f"{result.seed} faults")))
        run = Churn(node, windows, book, result.seed, arguments.workers, new_image)
        stack.callback(run.close)
        rounds = Rounds(node, run, faults, stack.enter_context(EventWatch(node, windows, book)), result)
        faults.none = arguments.without_faults
        rounds.begin()
        began_s = time.monotonic()
        stack.enter_context(_progress(run, faults, book, began_s))
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            faults.service_may_end = elapsed_s < seconds * SERVICE_FAULTS_SHARE
            rounds.round(began_s + min(elapsed_s + ROUND_S, seconds))
        result.seconds = time.monotonic() - began_s
        result.longest_recovery_s = faults.longest_recovery_s
        for text in result.too_much():
            book.find(f"the service has grown: {text}")
        for text in report.service_faults(node.server.daemon.log):
            book.find(f"in the service's log: {text}")


@contextlib.contextmanager
def _progress(run: Churn, faults: Faults, book: Book, began_s: float) -> Iterator[None]:
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
    parser.add_argument("--without-faults", action="store_true", help="churn only, to tell leaks from faults")
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
        soak(node, result, book, partial(_new_image, registry), arguments)
        if book.findings:
            node.keep_logs(arguments.logs / str(result.seed))
    print(report.as_json(result, book) if arguments.output == "json" else report.table(result, book))
    if book.findings:
        print(f"the daemons' logs are in {arguments.logs / str(result.seed)}")
    return 1 if book.findings else 0


if __name__ == "__main__":
    sys.exit(main())
