"""Random messages to a whole service on a real engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.behaviour.client import Cri
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.cri.fuzz import fuzz_round
from tests.cri_server import CriServer
from tests.engines import RealEngine

pytestmark = OWN_SERVICE
MESSAGES = 300


@pytest.fixture
def cri(own_engine: RealEngine, start_server: Callable[..., CriServer]) -> Iterator[Cri]:
    """A client of a service on an engine that random messages may spoil."""
    with service_client(start_server(own_engine)) as client:
        yield client


@pytest.mark.behaviour("GEN-16", "GEN-09")
@pytest.mark.timeout(400)
def test_random_messages_have_clear_answers_and_no_lasting_effect(cri: Cri) -> None:
    pod = cri.run_pod()
    container = pod.start()
    with grpc.insecure_channel(f"unix:{cri.socket}") as channel:
        fuzz_round(channel, 1, MESSAGES, deadline_s=60)
    assert cri("Version").runtime_name
    fresh = cri.run_pod()
    assert fresh.run("sh", "-c", "echo ran").output() == "ran"
    fresh.remove()
    del container
    pod.remove()
