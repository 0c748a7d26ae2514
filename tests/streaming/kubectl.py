"""Debian's kubectl of two generations, unpacked into a cache: one speaks SPDY, the other prefers WebSocket."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.debian_packages import cache_lock, fetch
from tests.streaming.apiserver import ApiServer


@dataclass(frozen=True, slots=True)
class KubectlRelease:
    """The Debian suite and package that a kubectl comes in."""

    suite: str
    package: str


RELEASES = {
    "kubectl-1.20": KubectlRelease("bookworm", "kubernetes-client"),
    "kubectl-new": KubectlRelease("sid", "kubectl"),
}


def kubectl(name: str) -> Path:
    """Return the path of a kubectl, fetching it when the cache has none."""
    release = RELEASES[name]
    with cache_lock(name) as unpacked:
        program = unpacked / "usr/bin/kubectl"
        if not program.exists():
            fetch(release.suite, [release.package], unpacked)
    return program


_SPDY_BY_WISH = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@dataclass(frozen=True)
class Kind:
    """A kubectl, and the way in which it comes to its transport."""

    release: str
    transport: str
    environment: dict[str, str] = field(default_factory=dict)
    refuse_websocket: bool = False


KINDS = {
    "1.20 SPDY": Kind("kubectl-1.20", "spdy/3.1"),
    "new WebSocket": Kind("kubectl-new", "websocket"),
    "new SPDY": Kind("kubectl-new", "spdy/3.1", _SPDY_BY_WISH),
    "new fallback": Kind("kubectl-new", "spdy/3.1", refuse_websocket=True),
}


@dataclass(frozen=True)
class Result:
    """How a kubectl ended."""

    code: int
    stdout: bytes
    stderr: bytes


class Kubectl:
    """Runs kubectl against the test's API server."""

    def __init__(self, kind: Kind, api: ApiServer, url: str, home: Path) -> None:
        self.kind = kind
        self.api = api
        self._command = [str(kubectl(kind.release)), "--server", url, "--namespace", "default"]
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "xterm", **kind.environment}

    async def start(self, *words: str, **files: int | None) -> asyncio.subprocess.Process:
        streams = {"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.PIPE}
        streams |= {"stderr": asyncio.subprocess.PIPE, **files}
        return await asyncio.create_subprocess_exec(*self._command, *words, env=self._environment, **streams)

    async def run(self, *words: str, stdin: bytes | None = None) -> Result:
        process = await self.start(*words, **({} if stdin is None else {"stdin": asyncio.subprocess.PIPE}))
        try:
            async with asyncio.timeout(60):
                stdout, stderr = await process.communicate(stdin)
        except TimeoutError:
            # A Go program tells where it hangs.
            process.send_signal(signal.SIGQUIT)
            _, stderr = await process.communicate()
            raise AssertionError(f"kubectl hangs: {self.api.upgrades} {stderr.decode()}") from None
        assert process.returncode is not None
        return Result(process.returncode, stdout, stderr)

    async def shell(self, script: str, *words: str, stdin: bytes | None = None) -> Result:
        return await self.run("exec", *words, "web", "--", "sh", "-c", script, stdin=stdin)
