"""The log driver under real Docker engines: formats, kills of either side, rotation under load."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.logs.cri_format import Entry, parse_line
from cri_dockerd_py.logs.driver import LogDriver
from tests.engines import DockerEngine
from tests.logs.containers import DriverProcess, driver_name, finish, run
from tests.processes import wait_until

KILLS = 22
COUNT_FAST = "exec seq 1 100000000"
COUNT_SLOWLY = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"


@pytest.fixture
def driver() -> Iterator[DriverProcess]:
    process = DriverProcess()
    process.start()
    yield process
    process.close()


@pytest.fixture
async def local_driver(tmp_path: Path) -> AsyncIterator[LogDriver]:
    driver = LogDriver(driver_name(), state_dir=tmp_path / "state")
    await driver.start()
    yield driver
    await driver.stop()


def entries(*paths: Path) -> list[Entry]:
    """All entries of some log files, strictly parsed."""
    parsed = [parse_line(line) for path in paths for line in path.read_bytes().splitlines()]
    assert None not in parsed
    times = [entry.time_ns for entry in parsed if entry is not None]
    assert times == sorted(times)
    return [entry for entry in parsed if entry is not None]


def wait_for_lines(path: Path) -> None:
    """Wait until the log has grown."""
    before = path.stat().st_size
    wait_until(lambda: path.stat().st_size > before + 2000, f"some lines in {path}", 20)


def check_counted(first: int, *paths: Path, kills: int = 0) -> int:
    """Each number once, in order, none torn but the last, which the end of the container may have cut.

    A dockerd that is killed takes the line with it that it has in hand.
    """
    found = entries(*paths)
    if found[-1].partial:
        found.pop()
    assert not any(entry.partial for entry in found)
    numbers = [int(entry.content) for entry in found]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == first
    assert numbers[-1] - first + 1 - len(numbers) <= kills
    return len(found)


def test_what_a_container_prints_is_what_is_read(docker_engine: DockerEngine, driver: DriverProcess) -> None:
    path = driver.directory / "pod" / "0.log"
    script = (
        r"printf 'plain\n\n\r\nreturn\r\nnul\0byte\n\377\376\n';"
        r"head -c 16384 /dev/zero | tr '\0' a; echo; head -c 40000 /dev/zero | tr '\0' b; echo; printf end"
    )
    finish(docker_engine, run(docker_engine, driver.name, path, script))
    got = [(entry.partial, entry.content) for entry in entries(path)]
    whole = [
        (False, b"plain"),
        (False, b""),
        (False, b""),
        (False, b"return"),
        (False, b"nul\0byte"),
        (False, b"\377\376"),
    ]
    assert got[:6] == whole
    rest = b"".join(content + (b"" if partial else b"\n") for partial, content in got[6:])
    assert rest == b"a" * 16384 + b"\n" + b"b" * 40000 + b"\n" + b"end"
    assert got[-1] == (True, b"end")
    assert max(len(content) for _, content in got) == 16384


def test_streams_and_terminals(docker_engine: DockerEngine, driver: DriverProcess) -> None:
    paths = [driver.directory / "pod" / f"{n}.log" for n in range(3)]
    script = "echo out; sleep 0.1; echo err >&2; sleep 0.1; echo out again"
    finish(docker_engine, run(docker_engine, driver.name, paths[0], script))
    finish(docker_engine, run(docker_engine, driver.name, paths[1], script, tty=True))
    finish(docker_engine, run(docker_engine, driver.name, None, "seq 1 200000"))
    assert [entry.stream for entry in entries(paths[0])] == ["stdout", "stderr", "stdout"]
    assert [(entry.stream, entry.content) for entry in entries(paths[1])] == [
        ("stdout", b"out"),
        ("stdout", b"err"),
        ("stdout", b"out again"),
    ]
    assert not paths[2].exists()


@pytest.mark.behaviour("CST-11", "LOG-07")
def test_the_log_is_complete_when_the_container_is_seen_to_have_ended(
    docker_engine: DockerEngine, driver: DriverProcess
) -> None:
    path = driver.directory / "pod" / "0.log"
    container_id = run(docker_engine, driver.name, path, "seq 1 300000; echo last >&2")
    docker_engine.client.api.wait(container_id, timeout=60)
    assert path.read_bytes().endswith((b"stderr F last\n", b"F 300000\n"))
    assert len(entries(path)) == 300001
    finish(docker_engine, container_id)


def test_docker_logs_reads_back(docker_engine: DockerEngine, driver: DriverProcess) -> None:
    path = driver.directory / "pod" / "0.log"
    container_id = run(docker_engine, driver.name, path, "seq 1 1000; printf end; exec sleep 100")
    api = docker_engine.client.api
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= 1000, "the log being written", 10)
    expected = [b"%d" % n for n in range(1, 1001)]
    assert api.logs(container_id).splitlines()[:1000] == expected
    assert api.logs(container_id, tail=3).splitlines()[:3] == expected[-3:]
    following = api.logs(container_id, stream=True, follow=True, tail=2)
    assert b"1000\n" in (next(following), next(following))
    finish(docker_engine, container_id, kill=True)


@pytest.mark.behaviour("LOG-20")
async def test_rotation_under_load_loses_and_tears_nothing(
    docker_engine: DockerEngine, local_driver: LogDriver, tmp_path: Path
) -> None:
    path = tmp_path / "pod" / "0.log"
    container_id = await asyncio.to_thread(run, docker_engine, local_driver.name, path, COUNT_FAST)
    rotated: list[Path] = []
    for n in range(15):
        await asyncio.sleep(0.02)
        rotated.append(path.with_name(f"0.log.20260102-0304{n:02}"))
        path.rename(rotated[-1])
        await local_driver.reopen(container_id)
        size = rotated[-1].stat().st_size
        assert path.stat().st_mode & 0o777 == 0o640
        await asyncio.sleep(0.005)
        assert rotated[-1].stat().st_size == size
    await asyncio.to_thread(finish, docker_engine, container_id, kill=True)
    check_counted(1, *rotated, path)
    assert local_driver.counters.rotations == 15


def test_kill_9_of_the_service_at_any_moment(docker_engine: DockerEngine, driver: DriverProcess) -> None:
    path = driver.directory / "pod" / "0.log"
    rng = random.Random(20)
    container_id = run(docker_engine, driver.name, path, COUNT_FAST)
    for n in range(KILLS):
        time.sleep(rng.uniform(0.0, 0.15))
        if n % 4 == 1:
            driver.rotate(path, path.with_name(f"0.log.20260102-0304{n:02}"))
        driver.daemon.kill()
        if n % 5 == 4:  # killed again while it recovers
            driver.start(wait=False)
            time.sleep(rng.uniform(0.0, 0.6))
            driver.daemon.kill()
        driver.start()
    finish(docker_engine, container_id, kill=True)
    rotated = sorted(path.parent.glob("0.log.*"))
    assert check_counted(1, *rotated, path) > 10_000
    assert len(rotated) == KILLS // 4 + (KILLS % 4 > 1)


def test_the_service_may_be_away_while_a_container_ends(docker_engine: DockerEngine, driver: DriverProcess) -> None:
    path = driver.directory / "pod" / "0.log"
    container_id = run(docker_engine, driver.name, path, "seq 1 1000; sleep 0.5; seq 1001 3000")
    driver.daemon.kill()
    time.sleep(1.0)
    driver.start()
    finish(docker_engine, container_id)
    assert check_counted(1, path) == 3000


def test_many_containers(docker_engine: DockerEngine, driver: DriverProcess) -> None:
    paths = [driver.directory / "pod" / f"{n}.log" for n in range(8)]
    ids = [run(docker_engine, driver.name, path, "seq 1 50000") for path in paths]
    for container_id in ids:
        finish(docker_engine, container_id)
    assert [check_counted(1, path) for path in paths] == [50000] * 8


def test_kill_9_of_dockerd_with_live_restore(own_docker_engine: DockerEngine, driver: DriverProcess) -> None:
    path = driver.directory / "pod" / "0.log"
    container_id = run(own_docker_engine, driver.name, path, COUNT_SLOWLY)
    for n in range(4):
        wait_for_lines(path)
        own_docker_engine.kill()
        if n == 1:  # both at once
            driver.daemon.kill()
            driver.start()
        if n == 2:  # the service comes back while dockerd is already asking for it
            driver.daemon.kill()
            starter = threading.Timer(1.5, driver.start)
            starter.start()
        if n == 3:  # rotated while dockerd is away
            driver.rotate(path, path.with_name("0.log.20260102-030405"))
        own_docker_engine.start()
    wait_for_lines(path)
    finish(own_docker_engine, container_id, kill=True)
    check_counted(0, path.with_name("0.log.20260102-030405"), path, kills=4)
    assert not list((driver.directory / "state").glob("*/meta.json"))
