"""What Status, Version and RuntimeConfig tell of the node and its engines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CgroupDriver(Enum):
    """Who makes cgroups below the parent that kubelet names."""

    SYSTEMD = "systemd"
    CGROUPFS = "cgroupfs"


@dataclass(frozen=True, slots=True)
class RuntimeHandler:
    """A runtime handler; the empty name is the default one (STA-15)."""

    name: str
    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """A status condition; `reason` is CamelCase and set when the condition is false."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts about an engine that change only when it is restarted or upgraded.

    `zstd_layers` tells whether it unpacks layers that are packed with zstd.
    """

    name: str
    version: str
    api_version: str
    cgroup_driver: CgroupDriver
    cgroup_version: int
    root_dir: str
    runtime_handlers: tuple[RuntimeHandler, ...]
    supplemental_groups_policy: bool = False
    zstd_layers: bool = True
