"""The soak sees what is wrong, and excuses nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.behaviour.client import Cri
from tests.soak import census, programs, report
from tests.soak.driver import Driver
from tests.soak.findings import Book
from tests.soak.programs import Program
from tests.soak.windows import DISK_FULL, Window, Windows

UNAVAILABLE, INTERNAL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL


@pytest.fixture
def windows() -> Windows:
    """The faults of the run, at first none."""
    return Windows()


@pytest.fixture
def book() -> Book:
    """The findings."""
    return Book()


@pytest.fixture
def driver(tmp_path: Path, windows: Windows, book: Book) -> Iterator[Driver]:
    """A driver for pods on containerd whose small disk is the test's directory."""
    with contextlib.closing(Cri(tmp_path / "no.sock", tmp_path)) as cri:
        yield Driver(cri, tmp_path, windows, book, "containerd")


def log_of(path: Path, *numbers: int) -> Path:
    path.write_text("".join(f"2026-01-01T00:00:00.1Z stdout F {number}\n" for number in numbers))
    return path


@pytest.mark.parametrize(
    ("rotated", "rest", "finding"),
    [
        ((1, 2), (3, 4), ""),
        ((1, 2), (4,), "lacks 1 of 4 lines"),
        ((1, 2), (3,), "lacks 1 of 4 lines"),
        ((), (2, 3, 4), "lacks 1 of 4 lines"),
        ((1, 2), (2, 3, 4), "has lines twice"),
    ],
)
def test_lost_and_doubled_lines_are_found(
    driver: Driver, book: Book, tmp_path: Path, rotated: tuple[int, ...], rest: tuple[int, ...], finding: str
) -> None:
    program = Program("counter", [], lines=4, rotated=[log_of(tmp_path / "0.log.0", *rotated)])
    programs.check_log(driver, program, log_of(tmp_path / "0.log", *rest), 0.0)
    assert [finding in text for text in book.findings] == ([True] if finding else [])


def test_a_full_disk_excuses_lost_lines_and_no_doubled_ones(
    driver: Driver, windows: Windows, book: Book, tmp_path: Path
) -> None:
    windows.all.append(Window(DISK_FULL, "", 0.0))
    programs.check_log(driver, Program("counter", [], lines=4), log_of(tmp_path / "0.log", 1, 4), 0.0)
    assert book.findings == []
    programs.check_log(driver, Program("counter", [], lines=4), log_of(tmp_path / "0.log", 1, 2, 2, 3, 4), 0.0)
    assert len(book.findings) == 1


def test_a_start_that_was_cut_off_may_be_repeated_and_nothing_else(
    driver: Driver, windows: Windows, book: Book, tmp_path: Path
) -> None:
    program = Program("counter", [], lines=4)
    twice = log_of(tmp_path / "0.log", 1, 2, 1, 2, 3, 4)
    windows.all.append(Window("docker kill", "docker", 0.0))
    programs.check_log(driver, program, twice, 0.0)
    assert len(book.findings) == 1
    windows.all.append(Window("containerd hang", "containerd", 0.0))
    programs.check_log(driver, program, twice, 0.0)
    programs.check_log(driver, program, log_of(tmp_path / "0.log", 1, 2, 2, 3, 4), 0.0)
    assert len(book.findings) == 2


def test_a_docker_that_ends_may_take_the_front_of_a_line_with_it(
    driver: Driver, windows: Windows, book: Book, tmp_path: Path
) -> None:
    driver.engine = "docker"
    program = Program("counter", [], lines=14)
    path = tmp_path / "0.log"
    for torn in ((*range(1, 11), 1, *range(12, 15)), (*range(1, 14), 4)):
        programs.check_log(driver, program, log_of(path, *torn), 0.0)
    assert len(book.findings) == 4
    windows.all.append(Window("docker kill", "docker", 0.0))
    for torn in ((*range(1, 11), 1, *range(12, 15)), (*range(1, 14), 4)):
        programs.check_log(driver, program, log_of(path, *torn), 0.0)
    assert len(book.findings) == 4
    programs.check_log(driver, program, log_of(path), 0.0)
    assert len(book.findings) == 4
    programs.check_log(driver, program, log_of(path, *range(1, 11), 3, *range(12, 15)), 0.0)
    assert len(book.findings) == 5


def test_only_hidden_bundles_count_as_being_removed() -> None:
    bundle, tasks = "6c" * 32, "/x/c-state/io.containerd.runtime.v2.task/k8s.io"
    hidden = [f".{bundle}", f"{tasks}/.{bundle}", f"{tasks}/.{bundle}/rootfs"]
    left = {"bundles": [hidden[0], bundle], "files": [*hidden[1:], f"{tasks}/{bundle}", "/x/.hidden"]}
    assert census.bundles_in_removal(left) == {"bundles": hidden[:1], "files": hidden[1:]}


def test_a_call_may_fail_only_while_what_it_needs_is_away(driver: Driver, windows: Windows, book: Book) -> None:
    windows.all.append(Window("containerd kill", "containerd", 0.0))
    assert driver.once("Version", deadline=1) is None
    assert book.findings == []
    windows.all[0] = Window("docker kill", "docker", 0.0)
    with pytest.raises(Exception, match="UNAVAILABLE"):
        driver.once("Version", deadline=1)
    assert len(book.findings) == 1


@pytest.mark.parametrize(
    ("window", "code", "details", "engine", "excused"),
    [
        (Window("containerd hang", "containerd", 0.0), UNAVAILABLE, "", "containerd", True),
        (Window("containerd hang", "containerd", 0.0), UNAVAILABLE, "", "docker", False),
        (Window("containerd hang", "containerd", 0.0), INTERNAL, "", "containerd", False),
        (Window("service kill", "", 0.0), UNAVAILABLE, "", "docker", True),
        (Window("service kill", "", 0.0), INTERNAL, "", "docker", False),
        (Window("CNI ADD fails", "", 0.0), INTERNAL, "plugin breakable: broken on purpose", "docker", True),
        (Window("CNI ADD fails", "", 0.0), UNAVAILABLE, "", "docker", False),
        (Window(DISK_FULL, "", 0.0), grpc.StatusCode.RESOURCE_EXHAUSTED, "", "docker", True),
        (Window(DISK_FULL, "", 0.0), INTERNAL, "", "docker", False),
    ],
)
def test_what_a_fault_excuses(window: Window, code: grpc.StatusCode, details: str, engine: str, excused: bool) -> None:
    assert window.excuses(code, details, engine) is excused


def test_growth_and_blindness_are_told() -> None:
    result = report.Result(1, [], first={"descriptors": 40.0}, last={"descriptors": 47.0})
    assert result.too_much() == ["descriptors: +7.0, 6 at most"]
    nothing = {"mounts": frozenset[str](), "rows of intents": frozenset[str]()}
    assert census.unseen([nothing], nothing) == ["mounts"]
    assert census.unseen([{**nothing, "mounts": frozenset({"/a"})}], nothing) == []


def test_faults_in_the_services_log_are_found(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    log.write_text("info fine\nerror bad\nTraceback (most recent call last):\n  File x\nValueError: no\n")
    (found,) = report.service_faults(log)
    assert "ValueError: no" in found

    log.write_text('msg=bad exception="Traceback (most recent call last):\\n  File x\\nKeyError: 1"\nmsg=fine\n')
    (found,) = report.service_faults(log)
    assert found.endswith('KeyError: 1" (1 times)')
