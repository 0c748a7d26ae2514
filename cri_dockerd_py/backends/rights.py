"""What an engine's daemon may do, and so may give to containers. Blocking; use a thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
#: In the order of their numbers, capabilities(7).
CAPABILITIES = tuple(
    """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
    """.split()
)
LEAST_OOM_SCORE_ADJ = -1000


@dataclass(frozen=True, slots=True)
class EngineRights:
    """`capabilities` are those that it can pass on, None for all of them."""

    least_oom_score_adj: int = LEAST_OOM_SCORE_ADJ
    capabilities: frozenset[str] | None = None


def engine_rights(pid: int, *, proc: Path = _PROC) -> EngineRights:
    """Return what a process may do, this one where `pid` is 0: without CAP_SYS_RESOURCE it lowers no OOM score."""
    directory = proc / (str(pid) if pid else "self")
    try:
        lines = (directory / "status").read_text(errors="replace").splitlines()
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
        last = int((proc / "sys/kernel/cap_last_cap").read_text())
        own_score = int((directory / "oom_score_adj").read_text())
    except (OSError, ValueError, StopIteration):
        return EngineRights()
    if effective == (1 << (last + 1)) - 1:
        return EngineRights()
    held = frozenset(name for number, name in enumerate(CAPABILITIES) if effective >> number & 1)
    least = LEAST_OOM_SCORE_ADJ if "SYS_RESOURCE" in held else max(0, own_score)
    return EngineRights(least, held)
