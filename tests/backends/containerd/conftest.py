"""Fixtures of the tests that speak containerd's API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from cri_dockerd_py.backends.containerd.client import ContainerdClient
from tests.engines import ContainerdNode


@pytest_asyncio.fixture
async def containerd(containerd_node: ContainerdNode) -> AsyncIterator[ContainerdClient]:
    """A client of the shared containerd."""
    client = ContainerdClient(containerd_node.endpoint)
    yield client
    await client.close()
