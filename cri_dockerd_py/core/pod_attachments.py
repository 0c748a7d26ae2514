"""Pods' places on the pod network: on record from before CNI ADD until after CNI DEL, so none is ever leaked."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping

from cri_dockerd_py.errors import CriError
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec
from cri_dockerd_py.model.security import NamespaceMode
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.netns_owner import OwnerMappings
from cri_dockerd_py.network.pod_network import PodNetwork, attachments_of
from cri_dockerd_py.network.pod_request import PodNetworkRequest
from cri_dockerd_py.store.records import Attachment, Records

_LOG = logging.getLogger(__name__)


class PodAttachments:
    """Attaches sandboxes to the pod network and releases them, also those of another shim that kept CNI's cache."""

    def __init__(self, network: PodNetwork, netns: NetnsDir, records: Records) -> None:
        self._network = network
        self._netns = netns
        self._records = records
        self._held: dict[str, Attachment] = {}

    def restore(self, held: Mapping[str, Attachment]) -> None:
        """Take over what was on record when the service started."""
        self._held = dict(held)

    @property
    def held(self) -> Mapping[str, Attachment]:
        """Every attachment on record, by sandbox id."""
        return self._held

    def plan(self, sandbox_id: str, spec: SandboxSpec, engine: str) -> Attachment:
        """Return what goes on record before anything is made; `hold` it once it is there."""
        return Attachment(sandbox_id, str(self._netns.path_of(sandbox_id)), spec, engine)

    def hold(self, attachment: Attachment) -> None:
        """Take note of an attachment that is on record: from now on `release` frees all that it may hold."""
        self._held[attachment.sandbox_id] = attachment

    async def make(self, attachment: Attachment) -> None:
        """Make the pod's namespace, owned by a new user namespace where the pod has one, and pin it."""
        await self._netns.create(attachment.sandbox_id, _owner(attachment.spec))

    async def pin(self, attachment: Attachment, pid: int) -> None:
        """Pin the namespace that process `pid` is in."""
        await self._netns.pin(attachment.sandbox_id, pid)

    async def add(self, attachment: Attachment) -> tuple[str, ...]:
        """Run CNI ADD on the pinned namespace; return the pod's addresses."""
        request = _request(attachment.sandbox_id, attachment.spec, attachment.netns_path)
        return (await self._network.setup(request)).ips

    def is_of(self, attachment: Attachment, pid: int) -> bool:
        """Whether the pinned namespace is the one that process `pid` is in."""
        try:
            return os.path.samefile(attachment.netns_path, f"/proc/{pid}/ns/net")
        except OSError:
            return False

    async def take_off(self, attachment: Attachment) -> None:
        """Run CNI DEL and unpin the namespace; the attachment stays on record, for another one."""
        await self._network.teardown(_request(attachment.sandbox_id, attachment.spec, attachment.netns_path))
        await self._netns.remove(attachment.sandbox_id)

    def is_held(self, sandbox_id: str) -> bool:
        """Whether the sandbox may hold an address."""
        return sandbox_id in self._held or self._network.cached_status(sandbox_id) is not None

    def ips(self, sandbox_id: str) -> tuple[str, ...]:
        """Return the addresses that CNI's cache holds for the sandbox, also when another shim wrote it."""
        status = self._network.cached_status(sandbox_id)
        return () if status is None else status.ips

    def needs_process(self, sandbox_id: str) -> bool:
        """Whether DEL needs the sandbox's process, as nothing pins the namespace."""
        return sandbox_id not in self._held and self.is_held(sandbox_id)

    async def release(self, sandbox_id: str, record: SandboxRecord | None) -> None:
        """Run CNI DEL and unpin the namespace; raises while something is still held, and may be repeated."""
        attachment = self._held.get(sandbox_id)
        foreign_netns = record.netns_path if record is not None and attachment is None else ""
        if not self.is_held(sandbox_id):
            await self._netns.remove_foreign(foreign_netns)
            return
        spec = attachment.spec if attachment else record.spec if record else None
        await self._network.teardown(_request(sandbox_id, spec, self._live_netns(attachment, record)))
        await self._netns.remove(sandbox_id)
        await self._netns.remove_foreign(foreign_netns)
        await self._records.detach(sandbox_id)
        self._held.pop(sandbox_id, None)

    async def sweep(self, live_ids: Collection[str]) -> None:
        """Remove namespaces of ours that belong to nothing, which only a crash at the wrong moment leaves.

        `live_ids` is looked at as the sweep goes on, so it has to be a view of what there is.
        """
        for sandbox_id in await self._network.sweep(lambda one: one in live_ids or one in self._held):
            _LOG.info("removed the network namespace of sandbox %s, which is gone", sandbox_id)

    async def collect_garbage(self) -> None:
        """Have plugins that offer it free what belongs to none of the attachments on record (CNI GC)."""
        await self._network.gc(lambda: attachments_of(self._held))

    async def check(self, record: SandboxRecord) -> str:
        """Return what plugins that offer it find wrong with the sandbox's attachment, "ok" when nothing (CNI CHECK)."""
        try:
            await self._network.check(_request(record.id, record.spec, record.netns_path or None))
        except CriError as error:
            return str(error)
        return "ok"

    @staticmethod
    def _live_netns(attachment: Attachment | None, record: SandboxRecord | None) -> str | None:
        if attachment is not None:
            return attachment.netns_path
        if record is not None and record.netns_path:
            return record.netns_path
        return f"/proc/{record.pid}/ns/net" if record and record.pid else None


def _owner(spec: SandboxSpec) -> OwnerMappings | None:
    wanted = spec.security.namespaces.userns
    if wanted is None or wanted.mode is not NamespaceMode.POD:
        return None
    return OwnerMappings(wanted.uids, wanted.gids)


def _request(sandbox_id: str, spec: SandboxSpec | None, netns_path: str | None) -> PodNetworkRequest:
    if spec is None:
        return PodNetworkRequest(sandbox_id, netns_path=netns_path)
    return PodNetworkRequest(
        sandbox_id=sandbox_id,
        pod_name=spec.metadata.name,
        pod_namespace=spec.metadata.namespace,
        pod_uid=spec.metadata.uid,
        netns_path=netns_path,
        port_mappings=spec.port_mappings,
        annotations=spec.annotations,
        dns=spec.dns,
        cgroup_path=spec.cgroup_parent,
    )
