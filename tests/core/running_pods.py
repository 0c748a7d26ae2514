"""Pods whose processes and cgroups are real, without an engine."""

from __future__ import annotations

from cri_dockerd_py.cgroups.detect import CgroupLayout
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxRecord
from tests.cgroups.host import HostCgroup
from tests.core import stats_records

IDLE = "print('ready', flush=True); input()"


class RunningPods:
    """Makes pods and containers, and puts their records in an inventory."""

    def __init__(self, layout: CgroupLayout, inventory: Inventory) -> None:
        self._layout = layout
        self._inventory = inventory
        self.cgroups: dict[str, HostCgroup] = {}

    def sandbox(self, *, host_network: bool = False, named_parent: bool = True) -> SandboxRecord:
        """A ready pod with its pause process in a cgroup below the pod's."""
        cgroup = HostCgroup(self._layout)
        self.cgroups[cgroup.container_id] = cgroup
        record = stats_records.sandbox(
            id=cgroup.container_id,
            pid=cgroup.run_python(IDLE).pid,
            cgroup_parent=f"/kubepods/{cgroup.pod_name}" if named_parent else "",
            host_network=host_network,
        )
        return self._inventory.put_sandbox(record)

    def container(
        self, sandbox: SandboxRecord, code: str = IDLE, *, layer: str = "", resources: Resources | None = None
    ) -> ContainerRecord:
        """A running container of the pod."""
        cgroup = HostCgroup(self._layout, self.cgroups[sandbox.id].pod_name)
        self.cgroups[cgroup.container_id] = cgroup
        record = stats_records.container(
            sandbox.id,
            id=cgroup.container_id,
            pid=cgroup.run_python(code).pid,
            layer=layer,
            resources=resources,
        )
        return self._inventory.put_container(record)

    def close(self) -> None:
        """End everything."""
        for cgroup in reversed(self.cgroups.values()):
            cgroup.stop()
