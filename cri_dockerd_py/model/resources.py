"""Resource limits of a container or a pod (CRI LinuxContainerResources)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """Limit for one page size, such as `2MB`; 0 means that none may be used."""

    page_size: str
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Zero or empty means "not set" (cri-behaviours RES-01)."""

    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpu_shares: int = 0
    memory_limit_bytes: int = 0
    memory_swap_limit_bytes: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    unified: Mapping[str, str] = field(default_factory=dict)

    def merged(self, update: Resources) -> Resources:
        """Return these limits with every set field of `update` laid over them; the OOM score stays (UCR-01, UCR-05)."""
        numbers = ("cpu_period_us", "cpu_quota_us", "cpu_shares", "memory_limit_bytes", "memory_swap_limit_bytes")
        changed = {name: getattr(update, name) for name in numbers if getattr(update, name)}
        changed |= {name: getattr(update, name) for name in ("cpuset_cpus", "cpuset_mems") if getattr(update, name)}
        if update.hugepage_limits:
            changed["hugepage_limits"] = update.hugepage_limits
        if update.unified:
            changed["unified"] = {**self.unified, **update.unified}
        return replace(self, **changed)
