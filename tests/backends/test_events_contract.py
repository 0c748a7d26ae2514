"""Events over the engine's absence: nothing is lost without being said."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import Connected, Disconnected, ImagesChanged, ProcessExited, ProcessStarted
from cri_dockerd_py.errors import Unavailable
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxState
from tests import images
from tests.backends.conftest import Backend, connected, opened
from tests.engines import RealEngine


async def test_image_changes_are_told(backend: Backend) -> None:
    backend.real.tag(images.BUSYBOX, "cri-test/other:1")
    await backend.event(lambda event: isinstance(event, ImagesChanged))
    backend.real.untag("cri-test/other:1")


async def test_execs_make_no_events(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    await backend.event(lambda event: isinstance(event, ProcessStarted) and event.id == container_id)
    before = len(backend.seen)
    await backend.sh(container_id, "true")
    await backend.engine.containers.signal(container_id, signal.SIGKILL)
    await backend.event(lambda event: isinstance(event, ProcessExited) and event.id == container_id)
    assert len(backend.seen) == before + 1


@pytest.mark.behaviour("LSB-09", "LCT-08")
async def test_engine_that_crashes_and_comes_back(own_engine: RealEngine, tmp_path: Path) -> None:
    async with opened(own_engine, tmp_path) as backend:
        sandbox = await backend.run()
        lives = await backend.start(sandbox)
        dies = await backend.start(sandbox, "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.01; done")
        pid = (await backend.look(dies)).pid
        await backend.engine.events.snapshot()
        own_engine.kill()
        await backend.event(lambda event: isinstance(event, Disconnected))
        for call in (
            backend.engine.events.ping(),
            backend.engine.events.snapshot(),
            backend.engine.sandboxes.create(backend.pod()),
            backend.engine.sandboxes.kill(sandbox.id),
            backend.engine.containers.remove(lives),
        ):
            with pytest.raises(Unavailable):
                await call
        os.kill(pid, signal.SIGTERM)
        backend.seen.clear()
        own_engine.start()
        await backend.event(lambda event: isinstance(event, Connected))
        snapshot = await backend.engine.events.snapshot()
        assert [(record.id, record.state) for record in snapshot.sandboxes] == [(sandbox.id, SandboxState.READY)]
        states = {record.id: (record.state, record.exit_code) for record in snapshot.containers}
        assert states == {lives: (ContainerState.RUNNING, 0), dies: (ContainerState.EXITED, 9)}
        assert await backend.sh(lives, "echo again") == "again\n"


async def test_engine_that_hangs(own_engine: RealEngine, tmp_path: Path) -> None:
    async with opened(own_engine, tmp_path, call_within_s=1.0) as backend:
        own_engine.freeze()
        try:
            for call in (backend.engine.events.ping, backend.engine.images.list):
                with pytest.raises(Unavailable, match="within"):
                    await call()
        finally:
            own_engine.thaw()
        await backend.engine.events.ping()


async def test_engine_that_is_away_at_start(own_engine: RealEngine, tmp_path: Path) -> None:
    own_engine.stop()
    connection = connected(own_engine, tmp_path)
    await connection.start()
    events = connection.engine.events.events()
    first = await anext(events)
    assert isinstance(first, Disconnected)
    assert str(own_engine.socket) in first.reason
    own_engine.start()
    while isinstance(event := await anext(events), Disconnected):
        pass
    assert isinstance(event, Connected)
    assert (await connection.engine.events.snapshot()).info.name == own_engine.kind
    await events.aclose()  # type: ignore[attr-defined]
    await connection.close()
