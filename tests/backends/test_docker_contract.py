"""What Docker Engine alone has to do: checkpoint files, its own log files, the pause image, few calls."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cri_dockerd_py.backends.process_tree import kill_tree
from cri_dockerd_py.errors import FailedPrecondition, Unimplemented
from cri_dockerd_py.model.container import ContainerState, ImageSpec, Mount
from cri_dockerd_py.model.sandbox import PortMapping, Protocol, SandboxState
from tests.backends.conftest import Backend, opened
from tests.engines import DockerEngine

ABSENT = "ab" * 32


@pytest.fixture
async def docker(backend: Backend, docker_engine: DockerEngine) -> Backend:
    """The backend, where the engine is Docker's."""
    assert backend.real is docker_engine
    return backend


async def test_checkpoint_is_written_and_removed(docker: Backend) -> None:
    spec = docker.pod(port_mappings=(PortMapping(Protocol.TCP, 80, 0), PortMapping(Protocol.TCP, 81, 8081)))
    sandbox = await docker.run(spec)
    file = docker.directory / "sandbox" / sandbox.id
    assert json.loads(file.read_bytes())["data"]["port_mappings"][1]["host_port"] == 8081
    assert sandbox.spec.port_mappings == (PortMapping(Protocol.TCP, 81, 8081),)
    await docker.engine.sandboxes.remove(sandbox.id)
    assert not file.exists()


async def test_sandbox_of_which_only_the_checkpoint_is_left(docker: Backend) -> None:
    directory = docker.directory / "dockershim"
    directory.mkdir(exist_ok=True)
    content = b'{"version":"v1","name":"web","namespace":"prod","data":{},"checksum":815459779}'
    (directory / ABSENT).write_bytes(content)
    (directory / ("cd" * 32)).write_bytes(b"rubbish")
    (lost,) = (await docker.engine.events.snapshot()).sandboxes
    assert (lost.id, lost.state, lost.spec.metadata.name) == (ABSENT, SandboxState.NOTREADY, "web")
    assert lost.spec.metadata.uid
    assert lost.created_at_ns > 0
    await docker.engine.sandboxes.kill(ABSENT)
    await docker.engine.sandboxes.remove(ABSENT)
    assert (await docker.engine.events.snapshot()).sandboxes == ()


async def test_json_file_log_cannot_be_reopened(docker: Backend, tmp_path: Path) -> None:
    sandbox = await docker.run()
    container_id = await docker.start(sandbox, log_path=str(tmp_path / "0.log"))
    assert (tmp_path / "0.log").exists()
    with pytest.raises(FailedPrecondition, match="json-file"):
        await docker.engine.containers.reopen_log(container_id)


@pytest.mark.behaviour("STT-04", "STT-07")
async def test_a_container_whose_log_cannot_be_linked_does_not_run(docker: Backend, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    container_id = await docker.create(await docker.run(), "sleep", "1000", log_path=str(in_the_way / "0.log"))
    in_the_way.touch()
    with pytest.raises(FailedPrecondition, match=r"file/0.log: File exists"):
        await docker.engine.containers.start(container_id)
    assert (await docker.look(container_id)).state is ContainerState.EXITED


async def test_unchanged_objects_are_not_inspected_again(docker_engine: DockerEngine, tmp_path: Path) -> None:
    calls: list[str] = []
    options = {"observe": lambda call, seconds, code: calls.append(call)}
    async with opened(docker_engine, tmp_path, **options) as backend:
        sandbox = await backend.run()
        await backend.start(sandbox)
        await backend.engine.events.snapshot()
        calls.clear()
        await backend.engine.events.snapshot()
        assert sorted(calls) == ["GET /containers/json", "GET /images/json", "GET /info"]


async def test_missing_pause_image_is_loaded_again(docker: Backend, docker_engine: DockerEngine) -> None:
    docker_engine.client.api.remove_image("cri-dockerd-py/pause:1", force=True)
    assert (await docker.run()).state is SandboxState.READY


@pytest.mark.behaviour("CKP-04")
async def test_checkpoint_is_refused_clearly(docker: Backend, tmp_path: Path) -> None:
    container_id = await docker.start(await docker.run())
    with pytest.raises(Unimplemented, match="Docker"):
        await docker.engine.processes.checkpoint(container_id, str(tmp_path / "c.tar"), within_s=5)


@pytest.mark.behaviour("MNT-16")
async def test_image_mounts_of_lost_sandboxes_are_released(docker_engine: DockerEngine, tmp_path: Path) -> None:
    if not docker_engine.mounts_images():
        pytest.skip("this Docker cannot mount images")
    async with opened(docker_engine, tmp_path) as backend:
        sandbox = await backend.run()
        source = ImageSpec("x", image_ref=(await backend.image()).id)
        await backend.start(sandbox, mounts=(Mount("/image", image=source, readonly=True),))
        await asyncio.to_thread(docker_engine.remove_all_containers)
        (tmp_path / "sandbox" / sandbox.id).unlink()
    async with opened(docker_engine, tmp_path) as backend:
        await backend.engine.events.snapshot()
        assert sandbox.id not in Path("/proc/self/mountinfo").read_text()


def test_process_one_is_never_killed() -> None:
    for pid in (1, 0, -1):
        kill_tree(pid)
