from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from cri_dockerd_py.network.cni_exec import (
    PluginCall,
    PluginError,
    PluginMissingError,
    PluginTimeoutError,
    find_plugin,
    run_plugin,
)
from tests.processes import wait_until

Script = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(text: str) -> str:
        path = tmp_path / "plug"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write


def call(program: str, stdin: bytes = b"{}", timeout: float = 20.0, fd: int | None = None) -> PluginCall:
    return PluginCall(program, "ADD", {"CNI_COMMAND": "ADD"}, stdin, timeout, fd)


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


async def appears(path: Path) -> str:
    await asyncio.to_thread(wait_until, lambda: path.exists() and path.read_text().endswith("\n"), str(path))
    return path.read_text()


async def test_stdin_stdout_and_environment(script: Script) -> None:
    program = script('cat; printf "%s" "$CNI_COMMAND $HOME"')
    assert await run_plugin(call(program, b"text ")) == f"text ADD {os.environ['HOME']}".encode()


async def test_large_texts_both_ways_cannot_deadlock(script: Script) -> None:
    stdin = b"x" * 900_000
    assert await run_plugin(call(script("printf a%.0s $(seq 100000) >&2; cat"), stdin)) == stdin


async def test_a_plugin_that_reopens_its_streams(script: Script) -> None:
    assert await run_plugin(call(script("cat /dev/stdin >/dev/stdout"), b"text")) == b"text"


async def test_its_own_words_are_the_error(script: Script) -> None:
    program = script("""echo noise >&2; printf '{"code":11,"msg":"try later","details":"busy"}'; exit 1""")
    with pytest.raises(PluginError) as caught:
        await run_plugin(call(program))
    error = caught.value
    assert (error.plugin, error.command, error.code) == ("plug", "ADD", 11)
    assert (error.message, error.details) == ("try later", "busy")
    assert str(error) == "CNI plugin plug failed ADD [code 11]: try later (busy)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo went wrong >&2; exit 3", r"went wrong \(exit status 3\)"),
        ("echo not json; exit 1", r"not json \(exit status 1\)"),
        ("exit 7", r"it gave no reason \(exit status 7\)"),
        ("kill -9 $$", r"it gave no reason \(killed by signal 9\)"),
        ("printf '[1]'; exit 1", r"\[1\] \(exit status 1\)"),
        ("""printf '{"code":"x","msg":5}'; exit 1""", "^CNI plugin plug failed ADD: 5$"),
        ("printf '{}'; echo why >&2; exit 1", "why"),
    ],
)
async def test_failures_without_proper_words(script: Script, text: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        await run_plugin(call(script(text)))


async def test_a_plugin_that_hangs_is_killed_with_what_it_started(script: Script, tmp_path: Path) -> None:
    program = script(f"sleep 600 & echo $! >{tmp_path}/child; echo $$ >{tmp_path}/self; wait")
    before = open_fds()
    with pytest.raises(PluginTimeoutError, match="did not end within"):
        await run_plugin(call(program, timeout=0.5))
    for name in ("child", "self"):
        pid = int(await appears(tmp_path / name))
        await asyncio.to_thread(wait_until, partial(is_dead, pid), f"the end of {pid}")
    assert open_fds() == before


async def test_a_cancelled_call_lets_the_plugin_end(script: Script, tmp_path: Path) -> None:
    program = script(f"echo $$ >{tmp_path}/self; sleep 0.5; echo end >{tmp_path}/end")
    async with asyncio.TaskGroup() as group:
        job = group.create_task(run_plugin(call(program)))
        await appears(tmp_path / "self")
        job.cancel()
    assert job.cancelled()
    assert (tmp_path / "end").exists()


async def test_a_cancelled_call_kills_what_does_not_end(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cri_dockerd_py.network.cni_exec._GRACE_S", 0.2)
    program = script(f"echo $$ >{tmp_path}/self; trap '' TERM; sleep 600")
    async with asyncio.TaskGroup() as group:
        job = group.create_task(run_plugin(call(program)))
        pid = int(await appears(tmp_path / "self"))
        job.cancel()
    assert job.cancelled()
    assert is_dead(pid)


async def test_what_it_leaves_running_does_not_hold_up_the_answer(script: Script, tmp_path: Path) -> None:
    program = script(f"sleep 600 & echo $! >{tmp_path}/child; echo done")
    started = time.monotonic()
    assert await run_plugin(call(program)) == b"done\n"
    assert time.monotonic() - started < 10
    os.kill(int((tmp_path / "child").read_text()), 9)


async def test_endless_output_is_stopped(script: Script) -> None:
    with pytest.raises(PluginError, match="more than 1048576 bytes"):
        await run_plugin(call(script("yes")))


async def test_the_loop_goes_on_meanwhile(script: Script) -> None:
    ticks = 0
    async with asyncio.TaskGroup() as group:
        job = group.create_task(run_plugin(call(script("sleep 0.5"))))
        while not job.done():
            ticks += 1
            await asyncio.sleep(0.01)
    assert ticks > 20


async def test_a_program_that_is_still_being_written_is_tried_again(script: Script) -> None:
    program = script("echo fine")
    with open(program, "a") as writer:
        asyncio.get_running_loop().call_later(0.5, writer.close)
        assert await run_plugin(call(program)) == b"fine\n"


async def test_what_cannot_be_executed(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    for path in (tmp_path / "missing", broken, tmp_path):
        with pytest.raises(PluginMissingError, match="cannot execute"):
            await run_plugin(call(str(path)))


async def test_only_the_lock_is_inherited(script: Script, tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as lock, open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        listing = await run_plugin(call(script("ls -l /proc/$$/fd"), fd=lock.fileno()))
    assert b"lock" in listing
    assert b"secret" not in listing


async def test_kernels_that_know_no_pidfd(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert await run_plugin(call(script("cat"), b"text")) == b"text"
    with pytest.raises(PluginTimeoutError):
        await run_plugin(call(script(f"echo $$ >{tmp_path}/self; exec sleep 600"), timeout=0.3))
    assert is_dead(int((tmp_path / "self").read_text()))


@pytest.mark.parametrize("pidfd", [True, False])
async def test_plugins_that_do_not_die_hold_up_nothing_and_are_reaped_later(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("cri_dockerd_py.network.cni_exec._REAP_S", 0.2)
    monkeypatch.setattr(os, "killpg", lambda _group, _signal: None)  # as for what hangs in the kernel
    if not pidfd:
        monkeypatch.setattr(os, "pidfd_open", refuse)
    await asyncio.to_thread(int)
    before = open_fds()
    program = script(f"echo $$ >{tmp_path}/$$.pid; until [ -e {tmp_path}/go ]; do sleep 0.1; done")
    with ThreadPoolExecutor(2) as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        try:
            calls = [run_plugin(call(program, timeout=0.5)) for _ in range(4)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            async with asyncio.timeout(5):
                await asyncio.to_thread(int)
        finally:
            (tmp_path / "go").touch()
    assert all(isinstance(error, PluginTimeoutError) for error in ended)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 4
    async with asyncio.timeout(10):
        while any(Path(f"/proc/{pid}").exists() for pid in pids) or open_fds() != before:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_many_at_once_leave_no_descriptor(script: Script) -> None:
    program = script("cat")
    await run_plugin(call(program))
    before = open_fds()
    async with asyncio.TaskGroup() as group:
        jobs = [group.create_task(run_plugin(call(program, str(n).encode()))) for n in range(40)]
    assert [job.result() for job in jobs] == [str(n).encode() for n in range(40)]
    assert open_fds() == before


def test_programs_are_found_in_the_order_of_the_directories(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "plug").mkdir()
    (tmp_path / "b" / "plug").write_text("")
    for name in ("b", "c"):
        (tmp_path / name / "plug").write_text("")
    (tmp_path / "c" / "plug").chmod(0o755)
    directories = [str(tmp_path / name) for name in ("a", "b", "c")]
    assert find_plugin("plug", directories) == f"{tmp_path}/c/plug"
    assert find_plugin("other", directories) is None
