"""The daemon as last seen: its facts, and what it has the right to give to containers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.facts import DaemonFacts, read_facts
from cri_dockerd_py.errors import Unavailable

_LOG = logging.getLogger(__name__)
_PROC = Path("/proc")
#: In the order of their numbers, capabilities(7).
_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_LEAST_OOM_SCORE_ADJ = -1000


class DaemonState:
    """`least_oom_score_adj` is found out from the daemon's rights, and corrected when a start shows it wrong.

    `capabilities` are those that the daemon has, None for all.
    """

    def __init__(self, client: DockerClient) -> None:
        self.least_oom_score_adj = _LEAST_OOM_SCORE_ADJ
        self.capabilities: frozenset[str] | None = None
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
            pid = await self._client.daemon_pid()
            rights = await asyncio.to_thread(daemon_rights, pid)
            self.least_oom_score_adj, self.capabilities = rights.least_oom_score_adj, rights.capabilities
        self._facts = facts
        return facts

    def restrict_oom_score_adj(self) -> None:
        """Take note that the daemon may not lower OOM scores; what is created from now on is within its rights."""
        if self.least_oom_score_adj < 0:
            _LOG.warning("Docker may not lower OOM scores (no CAP_SYS_RESOURCE): containers get 0 at the least")
            self.least_oom_score_adj = 0


@dataclass(frozen=True, slots=True)
class DaemonRights:
    """`capabilities` are those that it can pass on, None for all of them."""

    least_oom_score_adj: int = _LEAST_OOM_SCORE_ADJ
    capabilities: frozenset[str] | None = None


def daemon_rights(pid: int, *, proc: Path = _PROC) -> DaemonRights:
    """Return what a process may do: without CAP_SYS_RESOURCE it gives no OOM score below its own."""
    directory = proc / (str(pid) if pid else "self")
    try:
        lines = (directory / "status").read_text(errors="replace").splitlines()
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
        last = int((proc / "sys/kernel/cap_last_cap").read_text())
        own_score = int((directory / "oom_score_adj").read_text())
    except (OSError, ValueError, StopIteration):
        return DaemonRights()
    if effective == (1 << (last + 1)) - 1:
        return DaemonRights()
    held = frozenset(name for number, name in enumerate(_CAPABILITIES.split()) if effective >> number & 1)
    least = _LEAST_OOM_SCORE_ADJ if "SYS_RESOURCE" in held else max(0, own_score)
    return DaemonRights(least, held)
