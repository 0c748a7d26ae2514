"""Reads a container's output as a process of its own, for tests that kill it: STATE_DIR LOG STDOUT STDERR.

SIGTERM tells it that the container has exited.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from cri_dockerd_py.logs.outputs import ContainerOutputs


async def main(state_dir: str, log: str, stdout: str, stderr: str) -> None:
    outputs = ContainerOutputs(Path(state_dir))
    exited = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, exited.set)
    await outputs.start()
    await outputs.open("c1", log, Path(stdout), Path(stderr))
    Path(state_dir, "ready").touch()
    await exited.wait()
    assert await outputs.finish("c1", 10)
    await outputs.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
