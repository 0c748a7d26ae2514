"""QEMU's monitor: what a machine is told from outside, and how its memory is kept."""

from __future__ import annotations

import json
import shlex
import socket
import time
from pathlib import Path
from typing import Any

REPLY_WITHIN_S = 60.0
MIGRATION_WITHIN_S = 120.0


class Monitor:
    """A connection to the monitor (QMP) of one machine; used as a context."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(REPLY_WITHIN_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """Have a command carried out and return its result; events in between are passed over."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self._lines.readline():
            reply = json.loads(line)
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]
        raise RuntimeError(f"{command}: the machine ended")

    def freeze(self, memory: Path) -> None:
        """End the machine with its memory and devices written to a file, and all that is for its disk to the disk."""
        self.execute("stop")
        self.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.execute("migrate", uri=f"exec:exec cat >{shlex.quote(str(memory))}")
        self._wait_migrated()
        self.execute("quit")

    def thaw(self, memory: Path) -> None:
        """Have a machine that was started with `-incoming defer` go on from such a file."""
        self.execute("migrate-incoming", uri=f"exec:exec cat {shlex.quote(str(memory))}")
        self._wait_migrated()
        self.execute("cont")

    def _wait_migrated(self) -> None:
        deadline = time.monotonic() + MIGRATION_WITHIN_S
        while (state := self.execute("query-migrate").get("status")) != "completed":
            if state in ("failed", "cancelled") or time.monotonic() > deadline:
                raise RuntimeError(f"the machine's memory did not get through: {state}")
            time.sleep(0.1)
