"""Which cgroup version a root directory shows, and the reader for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cri_dockerd_py.cgroups.base import CgroupReader
from cri_dockerd_py.cgroups.v1 import CgroupV1
from cri_dockerd_py.cgroups.v2 import CgroupV2
from cri_dockerd_py.errors import FailedPrecondition

DEFAULT_ROOT = "/sys/fs/cgroup"
_UNIFIED_MARK = "cgroup.controllers"


class CgroupMode(Enum):
    """Hybrid: v1 controllers, with a v2 hierarchy beside them that has no controllers of ours."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class CgroupLayout:
    """`v1_roots` maps a v1 controller to its directory; `unified_root` is empty without a v2 hierarchy."""

    mode: CgroupMode
    v1_roots: Mapping[str, str]
    unified_root: str

    @property
    def version(self) -> int:
        """The version that holds the controllers."""
        return 2 if self.mode is CgroupMode.V2 else 1


def detect(root: str = DEFAULT_ROOT) -> CgroupLayout:
    """Look at the root directory; raises FailedPrecondition when no cgroups are mounted there."""
    if os.path.exists(f"{root}/{_UNIFIED_MARK}"):
        return CgroupLayout(CgroupMode.V2, {}, root)
    roots = _v1_roots(root)
    if "memory" not in roots or "cpuacct" not in roots:
        raise FailedPrecondition(
            f"no cgroup hierarchy with memory and cpuacct at {root}: mount cgroups there before the service starts"
        )
    unified = f"{root}/unified"
    if os.path.exists(f"{unified}/{_UNIFIED_MARK}"):
        return CgroupLayout(CgroupMode.HYBRID, roots, unified)
    return CgroupLayout(CgroupMode.V1, roots, "")


def reader_for(layout: CgroupLayout, proc_root: str = "/proc") -> CgroupReader:
    """Return the reader of the version that holds the controllers."""
    if layout.version == 2:
        return CgroupV2(layout.unified_root, proc_root)
    return CgroupV1(layout.v1_roots, proc_root)


def _v1_roots(root: str) -> dict[str, str]:
    """Map controllers to directories: several controllers may share one, named `cpu,cpuacct`."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return {}
    roots = {name: f"{root}/{name}" for name in names}
    for name in names:
        for controller in name.split(","):
            roots.setdefault(controller, f"{root}/{name}")
    return roots
