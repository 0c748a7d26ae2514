"""Pods that come and go in parallel."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.soak import census
from tests.soak.driver import Driver
from tests.soak.findings import Abandoned, Book
from tests.soak.life import Life, NewImage
from tests.soak.node import SoakNode
from tests.soak.windows import Windows

_WARM_UP_PODS = 6


class Churn:
    """Pods in parallel, each with the choices that its number and the seed give it."""

    def __init__(
        self, node: SoakNode, windows: Windows, book: Book, seed: int, workers: int, new_image: NewImage
    ) -> None:
        self._node = node
        self._windows = windows
        self.book = book
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
            driver = Driver(self._cri, self._node.small_logs, self._windows, self.book, engine)
            life = Life(driver, self.book, chance, self._node.new_uid(engine), self._new_image, self.ids)
            try:
                life.run()
            except Exception as error:
                self.book.find(f"pod {number} on {engine}: {type(error).__name__}: {error}")
            made |= life.ids

    def remove_the_rest(self) -> None:
        """Remove the pods whose lives were given up, so that only what stays after that counts as left behind.

        So does kubelet's image collection with images that a removal or a pull which was cut off has left without name.
        """
        driver = Driver(self._cri, self._node.small_logs, self._windows, self.book)
        with contextlib.suppress(Abandoned):
            for pod in driver("ListPodSandbox").items:
                driver("StopPodSandbox", pod_sandbox_id=pod.id)
                driver("RemovePodSandbox", pod_sandbox_id=pod.id)
            for image in driver("ListImages").images:
                if not image.repo_tags and not image.repo_digests:
                    driver("RemoveImage", image=pb.ImageSpec(image=image.id))
                    self.book.count("images without a name")

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
            self.book.find(f"the census is blind: it has seen no {kind} while pods ran")
        return baseline
