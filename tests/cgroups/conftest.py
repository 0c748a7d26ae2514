"""Fixtures: real cgroups."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cri_dockerd_py.cgroups.base import CgroupReader
from cri_dockerd_py.cgroups.detect import CgroupLayout, reader_for
from tests.cgroups.host import HostCgroup, layout_or_none


@pytest.fixture(scope="session")
def layout() -> CgroupLayout:
    """How cgroups are mounted on this machine."""
    found = layout_or_none()
    if found is None:
        pytest.skip("cgroups cannot be made here: root and a writable cgroup mount are needed")
    return found


@pytest.fixture(scope="session")
def reader(layout: CgroupLayout) -> CgroupReader:
    """The reader for this machine."""
    return reader_for(layout)


@pytest.fixture
def cgroup(layout: CgroupLayout) -> Iterator[HostCgroup]:
    """A container's cgroup."""
    made = HostCgroup(layout)
    yield made
    made.stop()
