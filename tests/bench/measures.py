"""What is measured, each on a server by its CRI socket alone; the results are {figure: value}."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Pod
from tests.bench.side import Side

LIVES = 6
AT_ONCE, AT_ONCE_TOTAL = 8, 32
MANY_PODS = 50
LOOKS = 7
EXECS = 12
LOG_BYTES = 100_000_000
LOG_LINE = "x" * 99
_GLANCE_S = 0.02
Figures = dict[str, float]


def one_pod_after_another(side: Side) -> Figures:
    """Run a pod, a container in it, and take both down, as kubelet does."""
    runs, ups, downs = [], [], []
    for _ in range(LIVES):
        began = time.monotonic()
        pod = side.cri.run_pod()
        runs.append(time.monotonic() - began)
        container = pod.start()
        ups.append(time.monotonic() - began)
        began = time.monotonic()
        take_down(container)
        downs.append(time.monotonic() - began)
    return {"RunPodSandbox, ms": median_ms(runs), "pod up, ms": median_ms(ups), "pod down, ms": median_ms(downs)}


def pods_in_parallel(side: Side) -> Figures:
    """Bring pods up and down by several callers."""
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: take_down(side.cri.run_pod().start()), range(AT_ONCE_TOTAL)))
    return {f"pods/s, {AT_ONCE} at once": AT_ONCE_TOTAL / (time.monotonic() - began)}


def reads_of_many(side: Side) -> Figures:
    """Look at many pods as kubelet's relist and its stats do."""
    with many_pods(side) as containers:
        figures = {
            "ListPodSandbox, ms": _look(lambda: side.cri("ListPodSandbox")),
            "ListContainerStats, ms": _look(lambda: side.cri("ListContainerStats")),
        }
        before = side.cpu_seconds()
        figures["relist, ms"] = _look(lambda: _relist(side))
        figures["CPU of a relist, ms"] = (side.cpu_seconds() - before) / LOOKS * 1000
        figures["ExecSync, ms"] = median_ms(timed(lambda: containers[0].exec("true"), EXECS))
        figures["resident, MB"] = side.resident_mb()
    return figures


def log_throughput(side: Side) -> Figures:
    """Let a container print, and wait until all of it is in its log."""
    pod = side.cri.run_pod()
    cpu, began = side.cpu_seconds(), time.monotonic()
    container = pod.start("sh", "-c", f"yes {LOG_LINE} | head -c {LOG_BYTES}")
    while container.status().state != pb.CONTAINER_EXITED:
        time.sleep(_GLANCE_S)
    seconds, cpu = time.monotonic() - began, side.cpu_seconds() - cpu
    take_down(container)
    return {"log, MB/s": LOG_BYTES / 1e6 / seconds, "CPU of 100 MB of log, s": cpu * 1e8 / LOG_BYTES}


def take_down(container: Container) -> None:
    """Stop and remove a container and its pod."""
    container.stop()
    container.remove()
    container.pod.remove()


@contextmanager
def many_pods(side: Side) -> Iterator[list[Container]]:
    """Hold many running pods of one container each."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        containers = list(pool.map(lambda _: side.cri.run_pod().start(), range(MANY_PODS)))
        try:
            yield containers
        finally:
            list(pool.map(take_down, containers))


def _relist(side: Side) -> None:
    for pod in side.cri.pods():
        Pod(side.cri, pod.id, side.cri.pod_config()).status()
    for container in side.cri.containers():
        side.cri("ContainerStatus", container_id=container.id)


def _look(look: Callable[[], object]) -> float:
    return median_ms(timed(look, LOOKS))


def timed(call: Callable[[], object], times: int) -> list[float]:
    """Make a call several times; return the seconds that each took."""
    taken = []
    for _ in range(times):
        began = time.monotonic()
        call()
        taken.append(time.monotonic() - began)
    return taken


def median_ms(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return statistics.median(seconds) * 1000
