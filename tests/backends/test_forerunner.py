"""The network namespace of a pod, found while Docker still starts it."""

from __future__ import annotations

import asyncio
import os

import pytest

from cri_dockerd_py.backends.docker.forerunner import cgroup_path
from cri_dockerd_py.model.node import CgroupDriver
from tests.backends.conftest import Backend
from tests.engines import DockerEngine


@pytest.mark.parametrize(
    ("parent", "driver", "expected"),
    [
        ("/kubepods/burstable/pod1", CgroupDriver.CGROUPFS, "kubepods/burstable/pod1/abc"),
        ("", CgroupDriver.CGROUPFS, "docker/abc"),
        (
            "/kubepods.slice/kubepods-pod1_2.slice",
            CgroupDriver.SYSTEMD,
            "kubepods.slice/kubepods-pod1_2.slice/docker-abc.scope",
        ),
        (
            "kubepods-burstable-pod1.slice",
            CgroupDriver.SYSTEMD,
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/docker-abc.scope",
        ),
        ("", CgroupDriver.SYSTEMD, "system.slice/docker-abc.scope"),
    ],
)
def test_where_docker_puts_a_cgroup(parent: str, driver: CgroupDriver, expected: str) -> None:
    assert cgroup_path("abc", parent, driver) == expected


@pytest.mark.parametrize("parent", ["", "/forerunner/pod"])
async def test_the_namespace_that_is_found_is_the_one_in_the_end(
    backend: Backend, docker_engine: DockerEngine, parent: str
) -> None:
    spec = backend.pod(cgroup_parent=parent)
    created = await backend.create_sandbox(spec)
    found: list[int] = []

    async def look() -> None:
        pid = await backend.engine.sandboxes.forerunner(created.id, spec)
        found.append(os.stat(f"/proc/{pid}/ns/net").st_ino)

    looking = asyncio.ensure_future(look())
    started = await backend.engine.sandboxes.start(created.id, spec)
    assert looking.done()
    assert found == [os.stat(f"/proc/{started.pid}/ns/net").st_ino]
    await backend.engine.sandboxes.remove(created.id)
