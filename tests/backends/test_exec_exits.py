"""Exit codes that Docker's event stream tells, so that nobody has to ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import ExecSpec, ProcessIO
from cri_dockerd_py.backends.docker.exec_exits import ExecExits
from tests.backends.conftest import Backend, opened
from tests.engines import DockerEngine


async def outcome(process: ProcessIO) -> tuple[bytes, int]:
    output = b""
    while (piece := await process.read()) is not None:
        output += piece[1]
    exit_code = await process.wait()
    await process.close()
    return output, exit_code


@pytest.mark.behaviour("EXS-03")
async def test_a_command_takes_two_calls(docker_engine: DockerEngine, tmp_path: Path) -> None:
    calls: list[str] = []

    def observe(call: str, _seconds: float, _code: str) -> None:
        calls.append(call)

    async with opened(docker_engine, tmp_path, observe=observe) as backend:
        container_id = await backend.start(await backend.run())
        calls.clear()
        for exit_code in (0, 3, 137):
            process = await backend.engine.processes.exec(
                container_id, ExecSpec(("sh", "-c", f"echo x; exit {exit_code}"))
            )
            assert await outcome(process) == (b"x\n", exit_code)
        execs = [call for call in calls if "exec" in call]
        # Under load an end may be told too late to wait for.
        assert execs.count("GET /exec/{}/json") < 3
        assert execs.count("POST /exec/{}/start") == 3


async def test_without_events_the_exit_code_is_asked_for(backend: Backend, docker_engine: DockerEngine) -> None:
    container_id = await backend.start(await backend.run())
    backend.engine.processes._exits = ExecExits()  # type: ignore[attr-defined]
    process = await backend.engine.processes.exec(container_id, ExecSpec(("sh", "-c", "echo x; exit 5")))
    assert await outcome(process) == (b"x\n", 5)


async def test_what_nobody_waits_for_is_not_kept() -> None:
    exits = ExecExits()
    exits.told("a", 1)
    future = exits.expect("b")
    exits.told("b", 2)
    assert exits.expect("b") is future
    assert future.result() == 2
    exits.forget("b")
    exits.forget("b")
    assert exits.expect("b") is not future
