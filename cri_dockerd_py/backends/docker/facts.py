"""What a daemon's `/info` says that this service acts on; it changes only when the daemon is restarted or reloaded."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.backends.docker.client import Version
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.node import CgroupDriver, EngineInfo, RuntimeHandler

_STOCK_ALIASES = re.compile(r"io\.containerd\..*")
_FEATURES = "org.opencontainers.runtime-spec.features"
_RECURSIVE_READ_ONLY_KERNEL = (5, 12)
_UNPACKS_ZSTD = (1, 42)  # Docker 23
_DEFAULT_HANDLERS = frozenset({"", "docker"})


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """`runtimes` maps a runtime's name to whether it can make mounts recursively read-only."""

    api: Version
    version: str
    root_dir: str
    cgroup_driver: CgroupDriver
    cgroup_version: int
    runtimes: Mapping[str, bool]
    default_runtime: str
    security_options: frozenset[str]
    cdi: bool
    containerd_store: bool

    def engine_info(self, engine_name: str) -> EngineInfo:
        """Return the facts in engine-neutral form; the stock aliases of the default runtime are not shown."""
        shown = sorted(name for name in self.runtimes if not _STOCK_ALIASES.fullmatch(name))
        handlers = [RuntimeHandler("", self.runtimes.get(self.default_runtime, False))]
        handlers += [RuntimeHandler(name, self.runtimes[name]) for name in shown]
        return EngineInfo(
            name=engine_name,
            version=self.version,
            api_version=f"{self.api[0]}.{self.api[1]}",
            cgroup_driver=self.cgroup_driver,
            cgroup_version=self.cgroup_version,
            root_dir=self.root_dir,
            runtime_handlers=tuple(handlers),
            supplemental_groups_policy=True,
            zstd_layers=self.api >= _UNPACKS_ZSTD,
        )

    def runtime_for(self, handler: str) -> str:
        """Return the runtime to ask Docker for, empty for its default."""
        if handler in _DEFAULT_HANDLERS:
            return ""
        if handler not in self.runtimes:
            raise InvalidArgument(
                f"no runtime for {handler!r} is configured; add it to `runtimes` in Docker's daemon.json"
            )
        return handler

    def handler_of(self, runtime: str) -> str:
        """Return the handler that a container's runtime stands for."""
        return "" if runtime == self.default_runtime else runtime

    def recursive_read_only(self, handler: str) -> bool:
        """Whether mounts of containers with this handler can be recursively read-only."""
        return self.runtimes.get(self.runtime_for(handler) or self.default_runtime, False)

    def has(self, security_option: str) -> bool:
        """Whether the daemon names a security option, such as `seccomp`, `apparmor` or `selinux`."""
        return any(option.split(",")[0] == f"name={security_option}" for option in self.security_options)

    @property
    def seccomp_off_by_default(self) -> bool:
        """Whether the daemon was told to run containers without a seccomp profile unless one is asked for."""
        return "name=seccomp,profile=unconfined" in self.security_options


def read_facts(info: Mapping[str, Any], api: Version) -> DaemonFacts:
    """Return what an `/info` document says."""
    driver = info.get("CgroupDriver") or CgroupDriver.CGROUPFS.value
    runtimes = info.get("Runtimes") or {}
    rro_kernel = _kernel(str(info.get("KernelVersion") or platform.release())) >= _RECURSIVE_READ_ONLY_KERNEL
    rows = info.get("DriverStatus") or ()
    return DaemonFacts(
        api=api,
        version=str(info.get("ServerVersion") or ""),
        root_dir=str(info.get("DockerRootDir") or "/var/lib/docker"),
        cgroup_driver=CgroupDriver.SYSTEMD if driver == CgroupDriver.SYSTEMD.value else CgroupDriver.CGROUPFS,
        cgroup_version=2 if str(info.get("CgroupVersion")) == "2" else 1,
        runtimes={name: rro_kernel and api >= (1, 44) and _has_rro(runtime) for name, runtime in runtimes.items()},
        default_runtime=str(info.get("DefaultRuntime") or "runc"),
        security_options=frozenset(info.get("SecurityOptions") or ()),
        cdi=api >= (1, 44) and bool(info.get("CDISpecDirs")),
        containerd_store=any(list(row[:2]) == ["driver-type", "io.containerd.snapshotter.v1"] for row in rows),
    )


def _has_rro(runtime: Mapping[str, Any]) -> bool:
    try:
        features = json.loads((runtime.get("status") or {}).get(_FEATURES) or "{}")
    except ValueError:
        return False
    return "rro" in (features.get("mountOptions") or ())


def _kernel(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
