"""Finding the network namespace of a pod while Docker still starts it.

The OCI runtime makes the namespace well before Docker's start call returns, which is about as long again. Who is in it
shows in the container's cgroup: the runtime's helper at first, the pod's own process later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection

from cri_dockerd_py.backends.docker.resources import cgroup_parent
from cri_dockerd_py.cgroups.detect import detect
from cri_dockerd_py.cgroups.files import read_all
from cri_dockerd_py.errors import FailedPrecondition
from cri_dockerd_py.model.node import CgroupDriver

#: No runtime has a namespace before that.
_FIRST_LOOK_S = 0.02
_LOOK_EVERY_S = 0.004
_CONTROLLER = "memory"
_SLICE = ".slice"
_DEFAULT_PARENTS = {CgroupDriver.CGROUPFS: "/docker", CgroupDriver.SYSTEMD: "system.slice"}


def cgroup_path(container_id: str, parent: str, driver: CgroupDriver) -> str:
    """Return where Docker puts a container's cgroup, below the root of a hierarchy."""
    parent = cgroup_parent(parent, driver) or _DEFAULT_PARENTS[driver]
    if driver is CgroupDriver.CGROUPFS:
        return f"{parent.strip('/')}/{container_id}"
    return f"{_expanded(parent)}/docker-{container_id}.scope"


def _expanded(slice_name: str) -> str:
    """Return the path of a systemd slice: `a-b.slice` lies in `a.slice`."""
    parts = slice_name.removesuffix(_SLICE).split("-")
    return "/".join("-".join(parts[: count + 1]) + _SLICE for count in range(len(parts)))


class Forerunners:
    """Looks into cgroups until somebody is there in a network namespace that is none of the node's."""

    def __init__(self) -> None:
        try:
            layout = detect()
        except FailedPrecondition:
            self._root = ""
        else:
            self._root = layout.v1_roots.get(_CONTROLLER) or layout.unified_root

    async def find(self, path: str, daemon_pid: int) -> int:
        """Return such a process, which may end soon; 0 when that cannot be told. Runs until then, or cancelled."""
        if not self._root:
            return 0
        nodes_own = {_netns_of(pid) for pid in ("self", "1", str(daemon_pid or "self"))}
        await asyncio.sleep(_FIRST_LOOK_S)
        while True:
            pid = _first_outside(f"{self._root}/{path}/cgroup.procs", nodes_own)
            if pid:
                return pid
            await asyncio.sleep(_LOOK_EVERY_S)


def _first_outside(procs: str, known: Collection[int]) -> int:
    for word in (read_all(procs) or b"").split():
        namespace = _netns_of(word.decode())
        if namespace and namespace not in known:
            return int(word)
    return 0


def _netns_of(pid: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    return 0
