"""The thread that serves all FIFOs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from cri_dockerd_py.logs.pump import Pump, Turn


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump("test")
    pump.start()
    yield pump
    pump.stop()


def reader(pump: Pump) -> tuple[int, int, list[bytes], threading.Event]:
    """Register a pipe; what is read from it lands in the list."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    got: list[bytes] = []
    seen = threading.Event()

    def turn() -> Turn:
        try:
            got.append(os.read(read_end, 1 << 16))
            seen.set()
        except BlockingIOError:
            pass
        return Turn(0.0)

    pump.submit(lambda: pump.register(read_end, turn)).result(5)
    return read_end, write_end, got, seen


@pytest.mark.behaviour("LOG-07")
def test_a_quiet_pipe_is_served_at_once(pump: Pump) -> None:
    _, write_end, got, seen = reader(pump)
    delays = []
    for _ in range(10):
        time.sleep(0.03)  # quiet for a while, which is what is tested
        seen.clear()
        begin = time.monotonic()
        os.write(write_end, b"x")
        assert seen.wait(5)
        delays.append(time.monotonic() - begin)
    assert sorted(delays)[5] < 0.02
    assert len(got) == 10


def test_what_was_written_before_the_registration_is_read(pump: Pump) -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    os.write(write_end, b"early")
    seen = threading.Event()

    def turn() -> Turn:
        seen.set()
        return Turn(0.0)

    pump.submit(lambda: pump.register(read_end, turn)).result(5)
    assert seen.wait(5)


def test_a_turn_that_fails_does_not_stop_the_others(pump: Pump) -> None:
    bad_read, bad_write = os.pipe()
    pump.submit(lambda: pump.register(bad_read, lambda: Turn(1 / 0))).result(5)
    _, write_end, got, seen = reader(pump)
    os.write(bad_write, b"x")
    os.write(write_end, b"y")
    assert seen.wait(5)
    assert got == [b"y"]


def test_a_busy_pipe_leaves_turns_to_the_others(pump: Pump) -> None:
    busy_read, _ = os.pipe()
    pump.submit(lambda: pump.register(busy_read, lambda: Turn(1.0, more=True))).result(5)
    _, write_end, got, seen = reader(pump)
    os.write(write_end, b"y")
    assert seen.wait(5)
    assert got == [b"y"]
    assert pump.submit(lambda: 42).result(5) == 42


def test_the_failure_of_a_job_reaches_its_caller(pump: Pump) -> None:
    with pytest.raises(ZeroDivisionError):
        pump.submit(lambda: 1 / 0).result(5)


def test_an_idle_pump_uses_no_time(pump: Pump) -> None:
    reader(pump)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_stop_may_be_called_twice_and_before_start() -> None:
    never_started = Pump("never")
    never_started.stop()
    never_started.stop()
