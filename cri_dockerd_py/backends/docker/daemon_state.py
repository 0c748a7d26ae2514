"""The daemon as last seen: its facts, and what it has the right to give to containers."""

from __future__ import annotations

import asyncio
import logging

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.facts import DaemonFacts, read_facts
from cri_dockerd_py.backends.rights import LEAST_OOM_SCORE_ADJ, engine_rights
from cri_dockerd_py.errors import Unavailable

_LOG = logging.getLogger(__name__)


class DaemonState:
    """`least_oom_score_adj` is found out from the daemon's rights, and corrected when a start shows it wrong.

    `capabilities` are those that the daemon has, None for all.
    """

    def __init__(self, client: DockerClient) -> None:
        self.least_oom_score_adj = LEAST_OOM_SCORE_ADJ
        self.capabilities: frozenset[str] | None = None
        #: The daemon's process when it was looked at, 0 when that cannot be told.
        self.pid = 0
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
        info = await self._client.get("/info")
        try:
            facts = read_facts(info, self._client.api)
        except (AttributeError, TypeError, ValueError) as error:
            raise Unavailable(f"Docker's description of itself makes no sense: {error!r}") from error
        if self._facts is None or facts.version != self._facts.version:
            self.pid = await self._client.daemon_pid()
            rights = await asyncio.to_thread(engine_rights, self.pid)
            self.least_oom_score_adj, self.capabilities = rights.least_oom_score_adj, rights.capabilities
        self._facts = facts
        return facts

    def restrict_oom_score_adj(self) -> None:
        """Take note that the daemon may not lower OOM scores; what is created from now on is within its rights."""
        if self.least_oom_score_adj < 0:
            _LOG.warning("Docker may not lower OOM scores (no CAP_SYS_RESOURCE): containers get 0 at the least")
            self.least_oom_score_adj = 0
