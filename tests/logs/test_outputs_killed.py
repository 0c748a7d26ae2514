"""kill -9 of the process that reads a container's output, again and again, while the container prints."""

from __future__ import annotations

import random
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.logs.shim import Shim, numbers, printed
from tests.processes import Daemon, wait_until

_BURST = "seq $((last + 1)) $((last + 5000)) | tee /dev/stderr; last=$((last + 5000)); sleep 0.1"
_PRINT = "last=0; until [ -e {directory}/stop ]; do " + _BURST + "; done; echo $last >{directory}/last"
_ROOT = Path(__file__).parents[2]


def reader(directory: Path, shim: Shim) -> Daemon:
    """The process, which says by a file when it reads."""
    arguments = [directory / "state", directory / "0.log", shim.stdout, shim.stderr]
    command = [sys.executable, "-m", "tests.logs.outputs_process", *map(str, arguments)]
    return Daemon(command, directory / "reader.log", {"PYTHONPATH": str(_ROOT)})


def grown(log: Path, size: int) -> bool:
    """Whether more is in the log than there was."""
    return log.stat().st_size > size


@pytest.mark.behaviour("CST-11", "LOG-06")
def test_no_line_is_lost_doubled_or_torn(tmp_path: Path) -> None:
    shim, log, ready = Shim(tmp_path / "c1"), tmp_path / "0.log", tmp_path / "state" / "ready"
    daemon = reader(tmp_path, shim)
    daemon.start(ready.exists)
    shim.start()
    writer = shim.spawn(_PRINT.format(directory=tmp_path))
    rng = random.Random(5)
    for _ in range(6):
        size = log.stat().st_size
        wait_until(partial(grown, log, size), "more output")
        time.sleep(rng.uniform(0, 0.1))  # anywhere in the work
        ready.unlink()
        daemon.kill()
        daemon.start(ready.exists)
    (tmp_path / "stop").touch()
    assert writer.wait(60) == 0
    last = int((tmp_path / "last").read_text())
    shim.end()
    assert daemon.stop() == 0, daemon.log_tail()
    for stream in ("stdout", "stderr"):
        assert printed(log, stream=stream) == numbers(1, last)
