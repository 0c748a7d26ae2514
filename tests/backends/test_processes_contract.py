"""Exec and attach on a real engine."""

from __future__ import annotations

import asyncio
import time

import pytest

from cri_dockerd_py.backends.base import ExecSpec, ProcessIO
from cri_dockerd_py.errors import FailedPrecondition, NotFound, Unknown
from tests.backends.conftest import Backend

STDOUT, STDERR = 1, 2


async def _all(process: ProcessIO) -> tuple[bytes, bytes]:
    outputs = {STDOUT: b"", STDERR: b""}
    while (piece := await process.read()) is not None:
        outputs[piece[0]] += piece[1]
    return outputs[STDOUT], outputs[STDERR]


@pytest.mark.behaviour("EXS-02", "EXS-03", "EXS-12")
async def test_outputs_and_exit_code(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    for script, code in (("exit 3", 3), ("kill -9 $$", 137), ("true", 0), ("exit 126", 126), ("exit 127", 127)):
        process = await backend.engine.processes.exec(
            container_id, ExecSpec(("sh", "-c", f"printf 'a\\000b'; echo err >&2; {script}"))
        )
        assert await _all(process) == (b"a\0b", b"err\n")
        assert await process.wait() == code
        await process.close()
        await process.close()


@pytest.mark.behaviour("EXS-10")
async def test_exec_is_quick(backend: Backend) -> None:
    """The median of several: the machine has other things to do as well."""
    container_id = await backend.start(await backend.run())
    times = []
    for _ in range(7):
        began = time.monotonic()
        await backend.sh(container_id, "true")
        times.append(time.monotonic() - began)
    assert sorted(times)[3] < 0.4


@pytest.mark.behaviour("EXS-04")
async def test_command_that_does_not_exist(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    for command, reason in (("nonexistent", "executable file not found"), ("/etc/passwd", "permission denied")):
        with pytest.raises(Unknown, match=reason):
            await _all(await backend.engine.processes.exec(container_id, ExecSpec((command,))))


async def test_text_like_a_runtimes_error_is_output(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    text = "OCI runtime exec failed: only joking"
    process = await backend.engine.processes.exec(container_id, ExecSpec(("sh", "-c", f"echo '{text}'; exit 0")))
    assert await _all(process) == (text.encode() + b"\n", b"")


@pytest.mark.behaviour("SEM-01")
async def test_stdin_and_half_close(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    process = await backend.engine.processes.exec(container_id, ExecSpec(("cat",), stdin=True))
    payload = bytes(range(256)) * 4096

    async def feed() -> None:
        await process.write_stdin(payload)
        await process.close_stdin()
        await process.close_stdin()

    (stdout, stderr), _ = await asyncio.gather(_all(process), feed())
    assert (stdout == payload, stderr) == (True, b"")
    assert await process.wait() == 0
    await process.close()


async def test_a_slow_reader_slows_the_process(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    script = "i=0; while [ $i -lt 3000 ]; do printf '%10000d' $i || exit; i=$((i+1)); done; touch /finished"
    process = await backend.engine.processes.exec(container_id, ExecSpec(("sh", "-c", script)))
    assert await process.read() is not None
    await asyncio.sleep(1.0)
    assert "no" in await backend.sh(container_id, "test -e /finished && echo yes || echo no")
    stdout, _ = await _all(process)
    assert len(stdout) > 29_000_000
    assert await process.wait() == 0
    await process.close()


@pytest.mark.behaviour("SEM-02")
async def test_terminal(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    process = await backend.engine.processes.exec(container_id, ExecSpec(("sh",), tty=True, stdin=True))
    await process.resize(123, 45)
    await process.write_stdin(b"stty size; tty; echo err >&2; exit 5\n")
    stdout, stderr = await _all(process)
    assert b"45 123" in stdout
    assert b"/dev/pts/" in stdout
    assert stderr == b""
    assert await process.wait() == 5
    await process.close()


@pytest.mark.behaviour("EXS-05")
async def test_kill_takes_all_that_was_started(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    script = "sleep 4711 & (sleep 4712 & setsid sleep 4713 & wait) & trap '' TERM; sleep 4714"
    process = await backend.engine.processes.exec(container_id, ExecSpec(("sh", "-c", script)))
    await backend.sh(container_id, "until ps | grep -q '[s]leep 4713' && ps | grep -q '[s]leep 4714'; do :; done")
    await process.kill()
    assert await process.wait() == 137
    assert "471" not in await backend.sh(container_id, "ps")
    await process.kill()
    await process.close()


@pytest.mark.behaviour("EXS-07")
async def test_wait_does_not_need_the_output_to_end(backend: Backend) -> None:
    container_id = await backend.start(await backend.run())
    process = await backend.engine.processes.exec(container_id, ExecSpec(("sh", "-c", "sleep 1000 & exit 4")))
    async with asyncio.timeout(10):
        assert await process.wait() == 4
    await process.close()


@pytest.mark.behaviour("EXS-01", "IDM-10")
async def test_exec_needs_a_running_container(backend: Backend) -> None:
    sandbox = await backend.run()
    container_id = await backend.create(sandbox, "true")
    with pytest.raises(FailedPrecondition):
        await backend.engine.processes.exec(container_id, ExecSpec(("true",)))
    with pytest.raises(NotFound):
        await backend.engine.processes.exec("ab" * 32, ExecSpec(("true",)))


@pytest.mark.behaviour("SEM-03")
async def test_attach(backend: Backend) -> None:
    sandbox = await backend.run()
    container_id = await backend.start(sandbox, "cat", stdin=True, stdin_once=True)
    process = await backend.engine.processes.attach(container_id, stdin=True, stdout=True, stderr=True, tty=False)
    await process.write_stdin(b"hello\n")
    assert await process.read() == (STDOUT, b"hello\n")
    await process.close_stdin()
    assert await process.read() is None
    assert await process.wait() == 0
    await process.close()


async def test_attach_to_a_terminal(backend: Backend) -> None:
    container_id = await backend.start(await backend.run(), "sh", stdin=True, tty=True)
    process = await backend.engine.processes.attach(container_id, stdin=True, stdout=True, stderr=True, tty=True)
    await process.resize(99, 33)
    await process.write_stdin(b"stty size; exit 6\n")
    stdout, _ = await _all(process)
    assert b"33 99" in stdout
    assert await process.wait() == 6
    await process.close()
