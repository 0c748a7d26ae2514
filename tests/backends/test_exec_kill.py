"""Killing a command that Docker has not started yet."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from cri_dockerd_py.backends.base import ExecSpec
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.exec_exits import ExecExits
from cri_dockerd_py.backends.docker.processes import DockerProcesses
from tests.backends.fake_daemon import fake_daemon, http


def state(*, running: bool, pid: int = 0, exit_code: int | None = None) -> bytes:
    """What Docker says of an exec."""
    return http(200, json.dumps({"Running": running, "Pid": pid, "ExitCode": exit_code}).encode())


@pytest.mark.behaviour("EXS-05")
@pytest.mark.parametrize("starts", [True, False])
async def test_a_kill_waits_until_the_process_is_up_or_never_will_be(tmp_path: Path, starts: bool) -> None:
    async with fake_daemon(tmp_path) as daemon, asyncio.timeout(10):
        daemon.answers |= {
            "/exec": http(201, b'{"Id": "e"}'),
            "/exec/e/start": b"HTTP/1.1 101 UPGRADED\r\n\r\n",
            "/exec/e/json": state(running=False),
        }
        client = DockerClient(daemon.endpoint)
        process = await DockerProcesses(client, ExecExits()).exec("c", ExecSpec(("sleep", "1000")))
        kill = asyncio.ensure_future(process.kill())
        for answer in (state(running=False), state(running=True)):
            daemon.answers["/exec/e/json"] = answer
            assert not (await asyncio.wait((kill,), timeout=0.1))[0]
        with subprocess.Popen(["sleep", "1000"], start_new_session=True) as command:
            up = state(running=True, pid=command.pid)
            daemon.answers["/exec/e/json"] = up if starts else state(running=False, exit_code=126)
            await kill
            if not starts:
                assert command.poll() is None
                command.kill()
            assert command.wait(10) == -9
        await process.close()
        await client.close()
