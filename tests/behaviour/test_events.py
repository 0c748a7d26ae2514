"""GetContainerEvents."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri

CREATED, STARTED, STOPPED, DELETED = (
    pb.CONTAINER_CREATED_EVENT,
    pb.CONTAINER_STARTED_EVENT,
    pb.CONTAINER_STOPPED_EVENT,
    pb.CONTAINER_DELETED_EVENT,
)


class Subscriber:
    """A subscription to the events, read by a thread."""

    def __init__(self, cri: Cri) -> None:
        self._call = cri.stream("GetContainerEvents", deadline=None)
        self._events: queue.Queue[pb.ContainerEventResponse] = queue.Queue()
        self._thread = threading.Thread(target=self._read, name="events", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._call:
                self._events.put(event)
        except grpc.RpcError:
            return

    def until(self, object_id: str, event_type: int, timeout: float = 20.0) -> list[pb.ContainerEventResponse]:
        """Return the events up to and including one of an object."""
        events = []
        while True:
            event = self._events.get(timeout=timeout)
            events.append(event)
            if (event.container_id, event.container_event_type) == (object_id, event_type):
                return events

    def close(self) -> None:
        """End the subscription."""
        self._call.cancel()
        self._thread.join(5)


@pytest.fixture
def subscribers(cri: Cri) -> Iterator[list[Subscriber]]:
    """Two subscriptions that have begun."""
    made = [Subscriber(cri), Subscriber(cri)]
    threading.Event().wait(0.3)
    yield made
    for subscriber in made:
        subscriber.close()


@pytest.mark.behaviour("EVT-01", "EVT-02", "EVT-03", "EVT-04", "EVT-05", "EVT-06", "EVT-08", "STP-03")
def test_life_of_a_pod_as_events(cri: Cri, subscribers: list[Subscriber]) -> None:
    pod = cri.run_pod()
    container = pod.create("true")
    container.start()
    container.wait()
    container.remove()
    pod.stop()
    pod.stop()
    pod.remove()
    for subscriber in subscribers:
        mine = [event for event in subscriber.until(pod.id, DELETED) if event.container_id in (pod.id, container.id)]
        assert [(event.container_id, event.container_event_type) for event in mine] == [
            (pod.id, CREATED),
            (pod.id, STARTED),
            (container.id, CREATED),
            (container.id, STARTED),
            (container.id, STOPPED),
            (container.id, DELETED),
            (pod.id, STOPPED),
            (pod.id, DELETED),
        ]
        times = [event.created_at for event in mine]
        assert times == sorted(times)
        assert all(times)
        for event in mine[:-1]:
            assert event.pod_sandbox_status.id == pod.id
            assert event.pod_sandbox_status.metadata == pod.config.metadata
        assert mine[1].pod_sandbox_status.state == pb.SANDBOX_READY
        assert mine[6].pod_sandbox_status.state == pb.SANDBOX_NOTREADY
        states = [[status.state for status in event.containers_statuses] for event in mine[:7]]
        assert states[1] == []
        assert states[2] == [pb.CONTAINER_CREATED]
        assert states[3] in ([pb.CONTAINER_RUNNING], [pb.CONTAINER_EXITED])
        assert states[4] == [pb.CONTAINER_EXITED]
        assert states[5] == []


@pytest.mark.behaviour("EVT-08", "EVT-04", "RCR-10")
def test_death_without_a_call_is_told(cri: Cri, subscribers: list[Subscriber]) -> None:
    pod = cri.run_pod()
    container = pod.start("sh", "-c", "sleep 0.3; exit 3")
    event = subscribers[0].until(container.id, STOPPED)[-1]
    (status,) = event.containers_statuses
    assert (status.id, status.state, status.exit_code) == (container.id, pb.CONTAINER_EXITED, 3)
    pod.remove()


@pytest.mark.behaviour("EVT-03")
def test_end_by_the_pods_stop_is_told_once(cri: Cri, subscribers: list[Subscriber]) -> None:
    pod = cri.run_pod()
    container = pod.start()
    pod.stop()
    pod.remove()
    events = subscribers[0].until(pod.id, DELETED)
    mine = [(event.container_id, event.container_event_type) for event in events]
    assert mine.count((container.id, STOPPED)) == 1
    assert mine.count((container.id, DELETED)) == 1
    assert mine.count((pod.id, STOPPED)) == 1
    assert mine.index((container.id, STOPPED)) < mine.index((pod.id, STOPPED))


@pytest.mark.behaviour("EVT-01", "EVT-07")
def test_subscriber_that_does_not_read_blocks_nobody(cri: Cri, subscribers: list[Subscriber]) -> None:
    lazy = cri.stream("GetContainerEvents", deadline=None)
    pod = cri.run_pod()
    for _ in range(10):
        pod.run("true").remove()
    pod.remove()
    subscribers[0].until(pod.id, DELETED)
    lazy.cancel()
