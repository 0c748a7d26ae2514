"""Fixtures for pulls: a fake registry, a sink, and the client as it is by default."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.distribution.fake_registry import FakeRegistry, serving
from tests.distribution.memory_sink import MemorySink
from tests.distribution.pulling import Puller


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    """An empty registry on a loopback port, without TLS."""
    async with serving() as registry:
        yield registry


@pytest.fixture
def sink() -> MemorySink:
    """An empty content store."""
    return MemorySink()


@pytest.fixture
def puller(sink: MemorySink) -> Puller:
    """Pulls into the sink, with no registry configured."""
    return Puller(sink)
