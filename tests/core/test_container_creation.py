"""What core sees to before an engine makes a container."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.errors import FailedPrecondition, ResourceExhausted
from cri_dockerd_py.model.security import ContainerSecurity, NamespaceMode, NamespaceOptions
from tests.core.conftest import Bench, app_spec, pod_spec


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that has room for no more files."""
    path = tmp_path / "full"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.behaviour("CRE-14", "CRE-07")
async def test_a_log_directory_that_cannot_be_made_is_told_as_what_it_is(bench: Bench, full_disk: Path) -> None:
    spec = replace(app_spec(), log_path="app/0.log")
    in_the_way = bench.directory / "file"
    in_the_way.touch()
    async with bench.core(bench.docker) as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
        for directory, error, reason in (
            (full_disk, ResourceExhausted, "No space left on device"),
            (in_the_way, FailedPrecondition, "Not a directory"),
        ):
            with pytest.raises(error, match=f"{directory}/app/0.log: {reason}"):
                await core.containers.create(sandbox_id, spec, str(directory))
        with pytest.raises(FailedPrecondition, match="File exists"):
            await core.containers.create(sandbox_id, replace(spec, log_path="0.log"), str(in_the_way))
        assert "create container" not in bench.docker.steps
        assert await core.containers.create(sandbox_id, spec, str(bench.directory / "logs"))
        assert (bench.directory / "logs" / "app").is_dir()


@pytest.mark.behaviour("NSP-02")
async def test_an_engine_gets_the_full_id_of_the_container_whose_processes_are_shared(bench: Bench) -> None:
    async with bench.core(bench.docker) as core:
        sandbox_id = await core.sandboxes.run(pod_spec())
        target_id = await core.containers.create(sandbox_id, app_spec("target"))
        await core.containers.start(target_id)
        options = NamespaceOptions(pid=NamespaceMode.TARGET, target_id=target_id[:13])
        spec = replace(app_spec("debugger"), security=ContainerSecurity(namespaces=options))
        container_id = await core.containers.create(sandbox_id, spec)
        for record in (bench.docker.containers[container_id], core.inventory.containers[container_id]):
            assert record.spec.security.namespaces == replace(options, target_id=target_id)
