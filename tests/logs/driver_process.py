"""Runs a log driver as a process of its own, for tests that kill it: driver_process.py NAME STATE_DIR."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from cri_dockerd_py.logs.driver import LogDriver


async def main(name: str, state_dir: str) -> None:
    driver = LogDriver(name, state_dir=Path(state_dir))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: pending.append(loop.create_task(rotate_all(driver), name="rotate")))
    pending: list[asyncio.Task[None]] = []
    await driver.start()
    print("ready", flush=True)
    await stop.wait()
    await driver.stop()
    print(driver.counters, file=sys.stderr, flush=True)


async def rotate_all(driver: LogDriver) -> None:
    """Rotate every log, then say so."""
    for container_id in driver.known():
        await driver.reopen(container_id)
    print("rotated", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
