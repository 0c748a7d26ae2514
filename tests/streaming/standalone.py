"""A streaming server on local processes in a process of its own, so that its memory and its loop can be measured.

Reads one JSON request per line and writes one JSON answer per line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from cri_dockerd_py.streaming.options import StreamingOptions
from cri_dockerd_py.streaming.protocol.remote_command import Streams
from cri_dockerd_py.streaming.requests import ExecRequest, PortForwardRequest
from cri_dockerd_py.streaming.server import StreamingServer
from tests.streaming.local_process import LocalHost

_TICK_S = 0.005


class Measures:
    """How late the loop comes to a tick, and how much memory has been used at most."""

    def __init__(self) -> None:
        self.late_s: list[float] = []

    async def tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self.late_s.append(loop.time() - due)

    def reset(self) -> None:
        self.late_s.clear()
        Path("/proc/self/clear_refs").write_text("5")

    def report(self) -> dict[str, float]:
        late = sorted(self.late_s) or [0.0]
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return {
            "peak_kib": int(fields["VmHWM"].split()[0]),
            "late_p99_s": late[int(len(late) * 0.99)],
            "late_max_s": late[-1],
            "fds": len(os.listdir("/proc/self/fd")),
            "tasks": len(asyncio.all_tasks()),
            "cpu_s": sum(os.times()[:2]),
        }


async def main() -> None:
    """Serve until stdin ends."""
    server, measures = StreamingServer(StreamingOptions(), LocalHost().openers()), Measures()
    await server.start()
    ticking = asyncio.ensure_future(measures.tick())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        request = json.loads(line)
        answer: object = None
        match request["do"]:
            case "exec":
                streams = Streams(stdin=request["stdin"], stdout=True, stderr=True, tty=False)
                answer = server.exec_url(ExecRequest("c1", tuple(request["command"]), streams))
            case "ports":
                answer = server.port_forward_url(PortForwardRequest("sb1"))
            case "reset":
                measures.reset()
            case "report":
                answer = measures.report() | {"sessions": server.session_count}
        print(json.dumps(answer), flush=True)
    ticking.cancel()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
