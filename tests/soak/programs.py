"""What containers of the soak run, and what is to be seen of each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.behaviour.client import FOREVER, LogEntry, join_log, parse_log
from tests.soak.driver import Driver
from tests.soak.windows import CONTAINERD_AWAY, DISK_FULL, DOCKER_ENDED

HTTP_PORT = 80
_LOST_WITH_ENGINE = 255


@dataclass(slots=True)
class Program:
    """A container's program; `lines` are the numbers that it prints, `exit_code` how it ends or is stopped."""

    kind: str
    command: Sequence[str]
    exit_code: int = 0
    ends: bool = False
    lines: int = 0
    bursts: int = 0
    rotated: list[Path] = field(default_factory=list)


def counter(chance: random.Random, small_disk: bool) -> Program:
    """A program that counts in bursts and ends; of one in three that is a crash."""
    bursts, size = chance.randint(3, 25), chance.randint(5, 200 if small_disk else 3000)
    code = chance.choice([0, 0, chance.randint(1, 120)])
    pause = chance.choice(["0", "0.05", "0.2"])
    script = (
        f"b=0; while [ $b -lt {bursts} ]; do seq $((b*{size}+1)) $((b*{size}+{size})); b=$((b+1)); "
        f"echo burst $b >&2; sleep {pause}; done; exit {code}"
    )
    return Program("counter", ["sh", "-c", script], code, ends=True, lines=bursts * size, bursts=bursts)


def server(chance: random.Random) -> Program:
    """A program that runs until it is stopped, and ends well on SIGTERM."""
    return Program("server", ["sh", "-c", f"echo ready {chance.randint(0, 99)}; {FOREVER}"])


def web() -> Program:
    """A web server, which does not know SIGTERM as the first process."""
    return Program("web", ["httpd", "-f", "-p", str(HTTP_PORT), "-h", "/etc"], exit_code=137)


def check_exit(driver: Driver, program: Program, code: int, began_s: float) -> None:
    """See that a container ended as it should; what a dead engine did not see may be told as 255."""
    accepted = {program.exit_code}
    if driver.disturbed(began_s):
        accepted |= {_LOST_WITH_ENGINE} if program.ends else {137, 143, _LOST_WITH_ENGINE}
    if not program.ends and program.kind == "web":
        accepted.add(143)
    if code not in accepted:
        driver.find(f"a {program.kind} ended with {code}, not {program.exit_code}")


def check_log(driver: Driver, program: Program, path: Path, began_s: float) -> int:
    """See that a counter's log is whole, over all rotations; return its lines.

    A full disk drops lines. A Docker that ends takes those with it that it had read and not passed on, the last one
    perhaps in part, and those of containers that end before it is back. An engine that ends, or a containerd that
    hangs, may not know of a start that was under way, which is then repeated.
    """
    entries: list[LogEntry] = []
    for file in [*program.rotated, path]:
        try:
            entries += parse_log(file.read_bytes())
        except FileNotFoundError:
            driver.find(f"log file {file.name} is missing")
        except AssertionError as error:
            driver.find(f"log {file}: {error}")
    texts = join_log(entries, "stdout").splitlines()
    if driver.engine == "docker" and driver.suffered(DOCKER_ENDED, began_s):
        texts = _without_torn(texts, program.lines)
    numbers = [int(text) for text in texts if text.isdigit()]
    if len(numbers) != len(texts):
        driver.find(f"log {path} has other lines than were printed: {[t for t in texts if not t.isdigit()][:3]}")
    jumps = [(a, b) for a, b in zip([0, *numbers], [*numbers, program.lines + 1], strict=True) if b != a + 1]
    backwards = [
        jump for jump in jumps if jump[1] <= jump[0] and not (jump[1] == 1 and _may_start_twice(driver, began_s))
    ]
    lost = sum(b - a - 1 for a, b in jumps if b > a)
    if backwards:
        driver.find(f"log {path} has lines twice: {backwards[:5]}")
    if lost and not _may_lose(driver, path, began_s):
        driver.find(f"log {path} lacks {lost} of {program.lines} lines, at {jumps[:5]}")
    elif lost:
        driver.count("log lines lost where that is allowed", lost)
    return len(numbers)


def _without_torn(texts: Sequence[bytes], last: int) -> list[bytes]:
    """Return the numbers without those that miss their front, as the next ones show."""
    following = [int(text) if text.isdigit() else 0 for text in (*texts, b"%d" % (last + 1))[1:]]
    wholes = [b"%d" % (number - 1) for number in following]
    return [text for text, whole in zip(texts, wholes, strict=True) if text == whole or not whole.endswith(text)]


def _may_start_twice(driver: Driver, began_s: float) -> bool:
    return driver.suffered(DOCKER_ENDED if driver.engine == "docker" else CONTAINERD_AWAY, began_s)


def _may_lose(driver: Driver, path: Path, began_s: float) -> bool:
    if driver.engine == "docker" and driver.suffered(DOCKER_ENDED, began_s):
        return True
    return path.is_relative_to(driver.small_logs) and driver.suffered((DISK_FULL,), began_s)
