"""Many containers in one pod: what is asked of all of them at once comes in time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Container, Pod

CONTAINERS = 40
#: They share the pod's pid namespace, so that the runtime has to look for what each of them leaves behind.
SHARED = pb.LinuxContainerSecurityContext(namespace_options=pb.NamespaceOption(pid=pb.POD))
SERVE = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")


@pytest.mark.behaviour("CRE-19", "EXS-10", "STO-11", "STP-02")
@pytest.mark.differs_from_containerd("with a shared pid namespace it takes a second for each container, and more")
def test_many_containers_of_one_pod(new_pod: Callable[..., Pod]) -> None:
    pod = new_pod()
    with ThreadPoolExecutor(CONTAINERS) as pool:
        starts = [
            pool.submit(pod.start, *SERVE, linux=pb.LinuxContainerConfig(security_context=SHARED))
            for _ in range(CONTAINERS)
        ]
        containers: list[Container] = [start.result() for start in starts]
        assert set(pool.map(lambda container: container.sh("echo $((6 * 7))"), containers)) == {"42"}
        half = containers[: CONTAINERS // 2]
        list(pool.map(lambda container: container.stop(30), half))
    pod.stop()
    states = {container.status().state for container in containers}
    assert states == {pb.CONTAINER_EXITED}
    assert {container.status().exit_code for container in half} == {0}
