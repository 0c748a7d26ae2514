"""Two services with directories and sockets of their own do not disturb each other, even on one engine.

On Docker Engine both serve all of its pods, on containerd each has a namespace of its own.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import eventually
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.behaviour.traces import traces
from tests.cni import CniNetwork
from tests.cri_server import CriServer
from tests.engines import RealEngine

pytestmark = OWN_SERVICE


@pytest.fixture
def second(own_engine: RealEngine) -> Iterator[CriServer]:
    """A second service with a network of its own."""
    network = CniNetwork()
    server = CriServer(own_engine.for_another_service(), network)
    server.start()
    yield server
    server.close()
    network.close()


@pytest.mark.behaviour("GEN-12", "GEN-15", "RUN-06", "NET-13")
@pytest.mark.timeout(300)
def test_crashes_of_one_do_not_touch_pods_of_the_other(
    own_engine: RealEngine,
    own_network: CniNetwork,
    start_server: Callable[..., CriServer],
    second: CriServer,
) -> None:
    first = start_server(own_engine)
    chance = random.Random(3)
    with service_client(first) as mine, service_client(second) as theirs:
        kept = mine.run_pod()
        running = kept.start()
        image_id = mine.image(mine.images["busybox"])
        for _ in range(6):
            config = mine.pod_config()
            run = mine.begin("RunPodSandbox", config=config)
            half_made = theirs.begin("RunPodSandbox", config=theirs.pod_config())
            threading.Event().wait(chance.uniform(0.0, 0.3))
            second.restart()
            half_made.cancel()
            pod_id = run.result().pod_sandbox_id
            status = mine("PodSandboxStatus", pod_sandbox_id=pod_id).status
            assert status.state == pb.SANDBOX_READY
            assert status.network.ip.startswith(own_network.subnet.rpartition(".")[0])
            mine("StopPodSandbox", pod_sandbox_id=pod_id)
            mine("RemovePodSandbox", pod_sandbox_id=pod_id)
        assert kept.status().state == pb.SANDBOX_READY
        assert running.exec("ip", "addr", "show", "eth0").exit_code == 0
        assert mine.image(mine.images["busybox"]) == image_id
        for pod in theirs.pods():
            if pod.id != kept.id:
                theirs("StopPodSandbox", pod_sandbox_id=pod.id)
                theirs("RemovePodSandbox", pod_sandbox_id=pod.id)
        assert running.status().state == pb.CONTAINER_RUNNING
        kept.remove()
        for server in (first, second):
            eventually(
                partial(traces, server),
                lambda found: not any(found.values()),
                "a clean host",
            )
