"""Changes of a container's limits: in its record, which is the truth for its next look, and in its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cri_dockerd_py.backends.containerd.any_value import read_json
from cri_dockerd_py.backends.containerd.daemon_state import DaemonState
from cri_dockerd_py.backends.containerd.objects import Held, Objects, read_container
from cri_dockerd_py.backends.containerd.oci.resources import linux_resources
from cri_dockerd_py.backends.containerd.statuses import Statuses
from cri_dockerd_py.backends.containerd.tasks import Tasks
from cri_dockerd_py.backends.keyed_locks import KeyedLocks
from cri_dockerd_py.errors import NotFound
from cri_dockerd_py.model.resources import Resources

#: A task's device rules are not changed by an update.
_DEVICES = "devices"


class ContainerUpdate:
    """All or nothing: what a task refuses is taken back in the record."""

    def __init__(self, tasks: Tasks, objects: Objects, statuses: Statuses, daemon: DaemonState) -> None:
        self._tasks = tasks
        self._objects = objects
        self._statuses = statuses
        self._daemon = daemon
        self._locks = KeyedLocks()

    async def update(self, held: Held, resources: Resources) -> None:
        """Set the given limits and leave the others alone."""
        facts = await self._daemon.facts()
        wanted = linux_resources(resources, facts.host)
        async with self._locks.hold(held.id):
            record = await self._objects.find(held.id)
            if record is None:
                raise NotFound(f"container {held.id} is not known to containerd: it was removed by another program")
            before: dict[str, Any] = read_json(record.spec)
            if wanted:
                await self._change(held.id, before, _merged((before.get("linux") or {}).get("resources") or {}, wanted))
            await self._statuses.load((held,))
            status = self._statuses.known(held)
            in_force = (status.resources or read_container(record).spec.resources).merged(resources)
            await self._statuses.put(held.id, replace(status, resources=in_force))

    async def _change(self, container_id: str, before: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
        after = {**before, "linux": {**(before.get("linux") or {}), "resources": limits}}
        await self._objects.update_spec(container_id, after)
        if container_id not in self._objects.running:
            return
        try:
            await self._tasks.update(container_id, {name: limits[name] for name in limits if name != _DEVICES})
        except BaseException:
            await self._objects.update_spec(container_id, before)
            raise


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits with others laid over them, section by section."""
    merged = dict(old)
    for name, section in new.items():
        merged[name] = {**(old.get(name) or {}), **section} if isinstance(section, Mapping) else section
    return merged
