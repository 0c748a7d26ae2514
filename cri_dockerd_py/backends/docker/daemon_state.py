"""The daemon as last seen: its facts, and how low an OOM score it may give."""

from __future__ import annotations

import asyncio
import logging

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.facts import DaemonFacts, read_facts
from cri_dockerd_py.errors import Unavailable

_LOG = logging.getLogger(__name__)
_CAP_SYS_RESOURCE = 1 << 24
_LEAST_OOM_SCORE_ADJ = -1000


class DaemonState:
    """`least_oom_score_adj` is found out from the daemon's rights, and corrected when a start shows it wrong."""

    def __init__(self, client: DockerClient) -> None:
        self.least_oom_score_adj = _LEAST_OOM_SCORE_ADJ
        self._client = client
        self._facts: DaemonFacts | None = None
        self._reading = asyncio.Lock()

    async def facts(self) -> DaemonFacts:
        """Return what is known, asking the daemon the first time."""
        if self._facts is not None:
            return self._facts
        async with self._reading:
            return self._facts or await self._read()

    async def refresh(self) -> DaemonFacts:
        """Ask the daemon anew."""
        async with self._reading:
            return await self._read()

    async def _read(self) -> DaemonFacts:
        first = self._facts is None
        info = await self._client.get("/info")
        try:
            facts = read_facts(info, self._client.api)
        except (AttributeError, TypeError, ValueError) as error:
            raise Unavailable(f"Docker's description of itself makes no sense: {error!r}") from error
        if first or facts.version != (self._facts.version if self._facts else ""):
            pid = await self._client.daemon_pid()
            self.least_oom_score_adj = await asyncio.to_thread(least_oom_score_adj, pid)
        self._facts = facts
        return facts

    def restrict_oom_score_adj(self) -> None:
        """Take note that the daemon may not lower OOM scores; what is created from now on is within its rights."""
        if self.least_oom_score_adj < 0:
            _LOG.warning("Docker may not lower OOM scores (no CAP_SYS_RESOURCE): containers get 0 at the least")
            self.least_oom_score_adj = 0


def least_oom_score_adj(daemon_pid: int) -> int:
    """Return the lowest score that the daemon may give: any, or without CAP_SYS_RESOURCE none below its own."""
    try:
        with open(f"/proc/{daemon_pid or 'self'}/status", encoding="ascii", errors="replace") as file:
            capabilities = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
        if capabilities & _CAP_SYS_RESOURCE:
            return _LEAST_OOM_SCORE_ADJ
        with open(f"/proc/{daemon_pid or 'self'}/oom_score_adj", encoding="ascii") as file:
            return max(0, int(file.read()))
    except (OSError, ValueError, StopIteration):
        return _LEAST_OOM_SCORE_ADJ
